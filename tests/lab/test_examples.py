"""Every topology that a reader can open in examples/ runs, and all its pairs are reached."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from lab_tools import podway, running

pytestmark = pytest.mark.kernel
EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = f"x{os.getpid()}"

#: example → its pairs
PAIRS = {"one-lan": 81, "two-lans": 56, "three-sites": 132, "mixed-mtu": 56}
#: the same of those whose routers speak BGP: test_routers
ROUTED = {"bgp-tor": 36, "two-racks": 56, "frr-reflector": 36, "leaf-spine": 56}


def test_every_example_is_tested() -> None:
    """A new file in examples/ belongs into the table above."""
    assert {path.stem for path in EXAMPLES.glob("*.yaml")} == {*PAIRS, *ROUTED, "own-etcd"}  # test_own_etcd


@pytest.mark.parametrize("example", PAIRS)
def test_an_example_reaches_all_its_pairs(example: str) -> None:
    """Up from the file, every pair by ICMP, TCP, UDP and full MTU, v4 and v6 where both have it."""
    with running(NAME, "-f", str(EXAMPLES / f"{example}.yaml")):
        done = podway("test", "--name", NAME)
        pairs = PAIRS[example]
        assert done.stdout.splitlines()[-1] == f"{pairs} of {pairs} pairs reached, no NAT inside"
        if example == "mixed-mtu":
            sizes = {pod: _mtu(pod) for pod in ("big1-1", "big2-1", "small-1", "desk-1")}
            assert sizes == {"big1-1": 8950, "big2-1": 8950, "small-1": 1450, "desk-1": 1450}
        if example == "three-sites":
            found = json.loads(podway("test", "--name", NAME, "-o", "json").stdout)["probes"]
            families = {one["family"] for one in found if (one["from"], one["to"]) == ("log", "vault")}
            assert families == {"IPv6"}  # of the network "six"
            node = podway("exec", "--name", NAME, "berlin1", "--", "ip", "-d", "link").stdout
            assert "vxlan id 1 local 192.0.2.1 " in node and "vxlan id 66 local fd00:0:0:1::1 " in node


def _mtu(pod: str) -> int:
    text = podway("exec", "--name", NAME, pod, "--", "ip", "-j", "link", "show", "eth0").stdout
    return int(json.loads(text)[0]["mtu"])
