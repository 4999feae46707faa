"""``loopback``: lo is up after ADD, down after DEL."""

from __future__ import annotations

import pytest
from dropin_lab import CniFailed, Lab, ip

pytestmark = pytest.mark.kernel
CONF = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}


def is_up(pod: str) -> bool:
    """Whether lo is."""
    return "UP" in ip("link", "show", "lo", inside=pod)[0]["flags"]


def test_up_and_down(node: Lab, pod: str) -> None:
    """The result is the reference plugin's."""
    result = node.call("ADD", CONF, pod, ifname="lo")
    assert result["interfaces"] == [
        {"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": f"/run/netns/{pod}"}
    ]
    assert [one["address"] for one in result["ips"]] == ["127.0.0.1/8", "::1/128"]
    assert is_up(pod)
    node.call("CHECK", CONF, pod, before=result)
    node.call("DEL", CONF, pod)
    assert not is_up(pod)
    with pytest.raises(CniFailed, match="lo is down"):
        node.call("CHECK", CONF, pod, before=result)
    node.call("DEL", CONF, pod, namespace="")
