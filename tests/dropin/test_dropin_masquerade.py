"""Which address a pod sees of those who use its published port: by each backend that is named."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from differ_effects import Server, Way, asked, served
from dropin_lab import Lab

pytestmark = pytest.mark.kernel

NODE, OUTSIDE, GATEWAY = "198.51.100.2", "198.51.100.1", "10.88.0.1"
UDP = {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}


def conf(kind: str, **keys: Any) -> dict[str, Any]:
    return {"cniVersion": "1.0.0", "name": "net", "type": kind, **keys}


def wired(outside: str) -> None:
    """A host outside, which has no route to the pods."""
    subprocess.run(f"ip link add up0 type veth peer name up1 netns {outside}".split(), check=True)
    for where, link, address in (([], "up0", NODE), (["-n", outside], "up1", OUTSIDE)):
        subprocess.run(["ip", *where, "addr", "add", f"{address}/24", "dev", link], check=True)
        subprocess.run(["ip", *where, "link", "set", link, "up"], check=True)


@pytest.mark.parametrize("either", ["agent", "in-process", "1.9.1"], indirect=True)
@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize(("snat", "every"), [(True, False), (True, True), (False, True)])
def test_who_is_seen(
    either: Lab, pod: str, other_pod: str, third_pod: str, backend: str, snat: bool, every: bool
) -> None:
    """``snat`` of the pod's subnet, with ``masqAll`` of everybody. By the reference's nftables neither: of
    the pod itself and 127.0.0.1 alone."""
    wired(third_pod)
    ipam = {"type": "host-local", "dataDir": str(either.data), "subnet": "10.88.0.0/16"}
    ptp = conf("ptp", ipam=ipam | {"routes": [{"dst": "0.0.0.0/0"}]})
    given = either.call("ADD", ptp, pod)
    neighbour = either.call("ADD", ptp, other_pod)["ips"][0]["address"].partition("/")[0]
    keys = {"backend": backend, "snat": snat, "masqAll": every, "runtimeConfig": {"portMappings": [UDP]}}
    either.call("ADD", conf("portmap", **keys), pod, before=given)
    masks = snat and not (either.theirs and backend == "nftables")
    with served({Server(pod, 4, 53)}):
        found = asked({where: Way(where, 4, NODE, 8053, "") for where in (third_pod, other_pod, pod)})
    assert found == {
        third_pod: f"as {GATEWAY if masks and every else OUTSIDE}",
        other_pod: f"as {GATEWAY if masks else neighbour}",
        pod: f"as {GATEWAY}" if snat else found[pod],
    }
