"""IPAM both ways: a foreign executable under our plugins, and ours under the reference's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dropin_lab import CniFailed, Lab, links, wait_for

pytestmark = pytest.mark.kernel

REFERENCE = "/usr/lib/cni"  # Debian's containernetworking-plugins
# Writes down each call; what it answers to ADD is in a file beside it, "fail" is an error document.
SCRIPT = """#!/bin/sh
cd "$(dirname "$0")"
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_ARGS $(cat | tr -d '\\n')" >> calls
answer="$(cat answer.$CNI_COMMAND 2>/dev/null)"
[ "$answer" = hang ] && exec sleep 60
echo "$answer"
case "$answer" in *'"code"'*) exit 1;; esac
"""
GIVEN = {
    "cniVersion": "1.0.0",
    "ips": [{"address": "10.50.0.5/24", "gateway": "10.50.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.50.0.53"]},
}


class Foreign:
    """An IPAM plugin of somebody else's in a directory of CNI_PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        (directory / "theirs").write_text(SCRIPT)
        (directory / "theirs").chmod(0o755)
        self.answers("ADD", GIVEN)

    def answers(self, command: str, what: object) -> None:
        """From now on; a text as it is."""
        text = what if isinstance(what, str) else json.dumps(what)
        (self.directory / f"answer.{command}").write_text(text)

    def asked(self) -> list[str]:
        """The commands so far."""
        path = self.directory / "calls"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def foreign(node: Lab, tmp_path: Path) -> Foreign:
    """On the CNI_PATH of ``node``."""
    made = Foreign(tmp_path / "foreign")
    node.path += f":{made.directory}"
    return made


def conf(**more: Any) -> dict[str, Any]:
    """A bridge whose addresses are somebody else's."""
    own = {"type": "bridge", "bridge": "cni7", "isGateway": True, "ipam": {"type": "theirs", "pool": "x"}}
    return {"cniVersion": "1.1.0", "name": "n3", **own, **more}


def test_everything_is_forwarded(node: Lab, pod: str, foreign: Foreign) -> None:
    """With the whole configuration and environment; the result is what it gave."""
    result = node.call("ADD", conf(), pod, CNI_ARGS="IgnoreUnknown=1;K=V")
    assert result["ips"] == [{"interface": 2, "address": "10.50.0.5/24", "gateway": "10.50.0.1"}]
    assert result["dns"] == GIVEN["dns"] and result["routes"] == GIVEN["routes"]
    (line,) = (foreign.directory / "calls").read_text().splitlines()
    assert line.startswith(f"ADD {pod} IgnoreUnknown=1;K=V ") and '"pool": "x"' in line
    node.call("CHECK", conf(), pod, before=result)
    node.call("STATUS", conf())
    node.call("GC", conf(**{"cni.dev/valid-attachments": [{"containerID": pod, "ifname": "eth0"}]}))
    assert len(links("veth")) == 1
    node.call("DEL", conf(), pod, before=result)
    assert foreign.asked() == ["ADD", "CHECK", "STATUS", "GC", "DEL"]
    wait_for(lambda: not links("veth"))


def test_a_failure_is_followed_by_its_del(node: Lab, pod: str, foreign: Foreign) -> None:
    """Its own words and code are told; also where ours fails after it, or it gave nothing of use."""
    foreign.answers("ADD", {"cniVersion": "1.0.0", "code": 107, "msg": "no luck", "details": "today"})
    with pytest.raises(CniFailed, match="no luck") as raised:
        node.call("ADD", conf(), pod)
    assert (raised.value.code, raised.value.document["details"]) == (107, "today")
    foreign.answers("ADD", GIVEN | {"ips": []})
    with pytest.raises(CniFailed, match="gave no address"):
        node.call("ADD", conf(), pod)
    foreign.answers("ADD", "no JSON")
    with pytest.raises(CniFailed, match="printed no JSON"):
        node.call("ADD", conf(), pod)
    foreign.answers("ADD", GIVEN)
    subprocess.run(["ip", "-n", pod, "link", "add", "eth0", "type", "bridge"], check=True)
    with pytest.raises(CniFailed, match="exists already"):
        node.call("ADD", conf(), pod)
    assert foreign.asked() == ["ADD", "DEL"] * 4 and not links("veth")


def test_a_pod_goes_first_and_the_failing_del_is_told(node: Lab, pod: str, foreign: Foreign) -> None:
    """An IPAM plugin that can't free an address makes DEL fail, so that the runtime comes back."""
    node.call("ADD", conf(), pod)
    foreign.answers("DEL", {"cniVersion": "1.0.0", "code": 11, "msg": "later"})
    with pytest.raises(CniFailed, match="later"):
        node.call("DEL", conf(), pod)
    foreign.answers("DEL", "")
    node.call("DEL", conf(), pod, namespace="")
    wait_for(lambda: not links("veth"))


def test_one_that_hangs_keeps_nobody_else_waiting(lab: Lab, pod: str, other_pod: str, tmp_path: Path) -> None:
    """The writer's thread is free meanwhile."""
    theirs = Foreign(tmp_path / "foreign")
    lab.path += f":{theirs.directory}"
    lab.start()
    theirs.answers("ADD", "hang")
    env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": pod, "CNI_NETNS": f"/run/netns/{pod}"}
    env |= {"CNI_IFNAME": "eth0", "CNI_PATH": lab.path, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen([lab.bin / "bridge"], stdin=subprocess.PIPE, env=env) as hanging:
        assert hanging.stdin is not None
        hanging.stdin.write(json.dumps(conf()).encode())
        hanging.stdin.close()
        wait_for(lambda: theirs.asked() == ["ADD"])
        lab.call("ADD", conf(ipam={}, name="n4"), other_pod)
        assert hanging.poll() is None
        hanging.kill()


@pytest.mark.skipif(not Path(REFERENCE, "bridge").exists(), reason="apt install containernetworking-plugins")
def test_our_host_local_under_the_reference_bridge(lab: Lab, pod: str, other_pod: str) -> None:
    """Theirs executes ours from CNI_PATH; both give addresses of one network, none of them twice."""
    lab.start()
    (lab.bin / "bridge").unlink()
    lab.path += f":{REFERENCE}"
    ipam = {"type": "host-local", "dataDir": str(lab.data), "subnet": "10.60.0.0/24"}
    body = {"cniVersion": "1.0.0", "name": "n5", "type": "bridge", "bridge": "cni9", "ipam": ipam}
    first = lab.call("ADD", body, pod)
    (lab.bin / "host-local").unlink()
    second = lab.call("ADD", body, other_pod)
    assert [one["ips"][0]["address"] for one in (first, second)] == ["10.60.0.2/24", "10.60.0.3/24"]
    lab.call("DEL", body, pod)
    assert not (lab.data / "n5" / "10.60.0.2").exists()


@pytest.mark.parametrize(("main", "version"), [("bridge", "1.0.0"), ("ptp", "0.3.1")])
def test_our_static_under_the_references_plugins(lab: Lab, pod: str, main: str, version: str) -> None:
    """What they make of it is what they make of their own; CHECK holds, and what can't be is refused."""
    lab.start()
    (lab.bin / main).unlink()
    lab.path += f":{REFERENCE}"
    addresses = [{"address": "10.61.0.5/24", "gateway": "10.61.0.1"}, {"address": "fd00:61::5/64"}]
    if main == "ptp":
        addresses[1]["gateway"] = "fd00:61::1"
    ipam = {
        "type": "static",
        "addresses": addresses,
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.61.0.1"}],
        "dns": {"nameservers": ["10.9.9.9"], "search": ["a.org"]},
    }
    body = {"cniVersion": version, "name": "n6", "type": main, "bridge": "cni9", "ipam": ipam}
    asked = {"CNI_ARGS": "IgnoreUnknown=1;IP=10.62.0.9/24;GATEWAY=10.62.0.1"}
    found = []
    for _ in ("ours", "theirs"):
        for more in ({}, asked):
            result = lab.call("ADD", body, pod, **more)
            if version != "0.3.1":
                lab.call("CHECK", body, pod, before=result, **more)
            found.append({key: result.get(key) for key in ("ips", "routes", "dns")})
            lab.call("DEL", body, pod, before=result)
        wrong = {**body, "ipam": {**ipam, "addresses": [{"address": "10.61.0.5"}]}}
        with pytest.raises(CniFailed):
            lab.call("ADD", wrong, pod)
        lab.call("DEL", body, pod)  # theirs leave a veth behind
        (lab.bin / "static").unlink(missing_ok=True)
    assert found[:2] == found[2:]
    assert [one["address"] for one in found[0]["ips"]] == ["10.61.0.5/24", "fd00:61::5/64"]
    assert "10.62.0.9/24" in [one["address"] for one in found[1]["ips"]]
