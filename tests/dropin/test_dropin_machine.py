"""What a machine says to the drop-in plugins besides a configuration: its allowlist, SELinux, its segment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from dropin_engine import Here
from dropin_lab import CniFailed, Lab, ip, links, wait_for

from podway.cni.dropin import tap, tuning

pytestmark = pytest.mark.kernel


def conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": kind, **keys}


def bridge(data: Path, **keys: Any) -> dict[str, Any]:
    ranges = [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]]
    ipam = {"type": "host-local", "dataDir": str(data), "ranges": ranges}
    return conf("bridge", bridge="cni0", isGateway=True, ipam=ipam, **keys)


def test_only_sysctls_of_the_allowlist(
    here: Here, pod: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regular expressions, one a line, as the reference's; without the file all of the network's."""
    allowlist = tmp_path / "allowlist.conf"
    monkeypatch.setattr(tuning, "ALLOWED", str(allowlist))
    before = here.call("ADD", bridge(here.data), pod)
    first = conf("tuning", sysctl={"net.ipv4.conf.IFNAME.arp_filter": "1"})
    second = conf("tuning", sysctl={"net.core.somaxconn": "321"})
    here.call("ADD", first, pod, before=before)
    here.call("DEL", first, pod)
    allowlist.write_text("\n^net\\.core\\.somaxconn$  \n^net.ipv6\n")
    with pytest.raises(CniFailed, match=r"arp_filter: is not allowed by .*allowlist\.conf") as refused:
        here.call("ADD", first, pod, before=before)
    assert refused.value.code == 7
    here.call("ADD", second, pod, before=before)
    shown = subprocess.run(
        ["ip", "netns", "exec", pod, "sysctl", "-n", "net.core.somaxconn"], capture_output=True, check=True
    )
    assert shown.stdout == b"321\n"
    here.call("DEL", second, pod)
    here.call("DEL", first, pod)  # what no ADD would take can go
    for broken, said in (("(", "in '\\('"), (None, "can't be read")):
        allowlist.unlink()
        if broken is None:
            allowlist.mkdir()
        else:
            allowlist.write_text(broken)
        with pytest.raises(CniFailed, match=said):
            here.call("ADD", second, pod, before=before)


def test_a_label_is_refused_where_there_is_selinux(
    here: Here, pod: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says nothing elsewhere."""
    body = conf("tap", selinuxContext="system_u:system_r:container_t:s0")
    monkeypatch.setattr(tap, "_SELINUX", str(tmp_path / "enforce"))
    result = here.call("ADD", body, pod)
    assert [one["ifname"] for one in ip("link", "show", "type", "tun", inside=pod)] == ["eth0"]
    here.call("DEL", body, pod, before=result)
    (tmp_path / "enforce").write_text("1")
    with pytest.raises(CniFailed, match="selinuxContext") as refused:
        here.call("ADD", body, pod)
    assert refused.value.code == 7
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]


def test_enabledad_finds_an_address_that_somebody_has(lab: Lab, pod: str, other_pod: str) -> None:
    """The ADD fails as soon as the kernel knows, and leaves nothing; without the option nobody looks."""
    lab.start()
    lab.call("ADD", bridge(lab.data), other_pod)
    subprocess.run(
        ["ip", "-n", other_pod, "addr", "add", "fd00:88::3/64", "dev", "eth0", "nodad"], check=True
    )
    with pytest.raises(CniFailed, match="fd00:88::3/64 is somebody else's on this segment"):
        lab.call("ADD", bridge(lab.data, enabledad=True), pod)
    wait_for(lambda: len(links("veth")) == 1, "the veth is gone")
    assert [one["ifname"] for one in ip("link", inside=pod)] == ["lo"]
    mine = [lab.data / "net" / address for address in ("10.88.0.3", "fd00:88::3")]
    wait_for(lambda: not any(path.exists() for path in mine), "the addresses are free")
    lab.call("ADD", bridge(lab.data), pod)
