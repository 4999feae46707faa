"""Drop-in plugins whose links the guest's kernel makes."""

from __future__ import annotations

from typing import Any

import pytest
from dropin_engine import Here
from dropin_lab import ip

pytestmark = pytest.mark.guest


def conf(here: Here, plugin: str, **more: Any) -> dict[str, Any]:
    """A dual stack network."""
    ranges = [[{"subnet": "10.26.0.0/24"}], [{"subnet": "fd00:26::/64"}]]
    ipam = {"type": "host-local", "dataDir": str(here.data), "ranges": ranges}
    return {"cniVersion": "1.0.0", "name": "n6", "type": plugin, "ipam": ipam, **more}


def life(here: Here, pod: str, body: dict[str, Any], kind: str) -> dict[str, Any]:
    """ADD, CHECK and DEL of one pod; how its link was."""
    result = here.call("ADD", body, pod)
    (found,) = ip("-d", "link", "show", "eth0", inside=pod)
    assert (found["linkinfo"]["info_kind"], "UP" in found["flags"]) == (kind, True)
    assert result["interfaces"] == [
        {"name": "eth0", "mac": found["address"], "sandbox": f"/run/netns/{pod}"},
    ]
    given = [one["local"] for one in ip("addr", "show", "eth0", inside=pod)[0]["addr_info"]]
    assert {"10.26.0.2", "fd00:26::2"} <= set(given)
    here.call("CHECK", body, pod, before=result)
    here.call("DEL", body, pod)
    assert "eth0" not in [one["ifname"] for one in ip("link", inside=pod)]
    here.engine.pieces.burial.complete()
    assert not (here.data / "n6" / "10.26.0.2").exists()
    return dict(found)


def test_dummy(here: Here, pod: str) -> None:
    life(here, pod, conf(here, "dummy"), "dummy")
