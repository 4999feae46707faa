"""CHECK after plugins that change what the first one made: prevResult counts, as with the reference."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from differential import release
from dropin_lab import CniFailed, Lab

from podway.model.dropin import BridgePod, Piece
from podway.model.dropin import Path as Way
from podway.plan import dropin
from podway.plan.dropin.told import Told, required

#: a plugin of somebody else's: carries out commands in the pod, and answers with keys of the result replaced
CHANGER = """#!/usr/bin/python3
import json, os, subprocess, sys
conf = json.load(sys.stdin)
for words in conf["commands"]:
    subprocess.run(["nsenter", "--net=" + os.environ["CNI_NETNS"], "ip", *words.split()], check=True)
print(json.dumps({**conf["prevResult"], **conf["told"]}))
"""
OWN = [{"dst": "0.0.0.0/0"}, {"dst": "10.99.0.0/16", "gw": "10.88.0.1"}]
MORE = {"dst": "10.77.0.0/16", "gw": "10.88.0.9"}
ONLINK = {"dst": "10.76.0.0/16"}


def conf(lab: Lab, kind: str) -> dict[str, Any]:
    keys = {"bridge": {"bridge": "cni0", "isGateway": True}, "macvlan": {"master": "up0"}, "ptp": {}}[kind]
    subnet = {"subnet": "10.88.0.0/16", "rangeStart": "10.88.0.2"}
    ipam = {"type": "host-local", "dataDir": str(lab.data), "ranges": [[subnet]], "routes": OWN}
    return {"cniVersion": "1.0.0", "name": "net", "type": kind, "ipam": ipam, **keys}


def changed(lab: Lab, pod: str, result: dict[str, Any], commands: list[str], told: dict[str, Any]) -> Any:
    """The result after the changer."""
    plugin = lab.bin / "changer"
    plugin.write_text(CHANGER)
    plugin.chmod(0o755)
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "changer", "commands": commands, "told": told}
    return lab.call("ADD", conf, pod, before=result)


def inside(pod: str, words: str) -> None:
    subprocess.run(["ip", "-n", pod, *words.split()], check=True)


def attached(lab: Lab, pod: str, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and result."""
    if kind == "macvlan":
        subprocess.run(["ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1"], check=True)
        for name in ("up0", "up1"):
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
    body = conf(lab, kind)
    result = lab.call("ADD", body, pod)
    lab.call("CHECK", body, pod, before=result)
    return body, result


#: commands of the changer, what it tells, then commands that somebody gives, each of which CHECK objects to
CASES: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "a route is taken out": (["route del 10.99.0.0/16"], {"routes": OWN[:1]}, []),
    "all routes are": (["route del 10.99.0.0/16", "route del default"], {"routes": []}, []),
    "a route comes, and goes": (
        ["route add 10.77.0.0/16 via 10.88.0.9 onlink dev eth0"],
        {"routes": [*OWN, MORE]},
        ["route del 10.77.0.0/16"],
    ),
    "a route by another gateway than it was told": (
        ["route add 10.77.0.0/16 via 10.88.0.9 onlink dev eth0"],
        {"routes": [*OWN, MORE]},
        ["route replace 10.77.0.0/16 via 10.88.0.8 onlink dev eth0"],
    ),
    "a route on the link": (
        ["route add 10.76.0.0/16 dev eth0"],
        {"routes": [*OWN, ONLINK]},
        ["route del 10.76.0.0/16"],
    ),
    "a default route by another gateway": (
        ["route replace default via 10.88.0.7 onlink dev eth0"],
        {"routes": [{"dst": "0.0.0.0/0", "gw": "10.88.0.7"}, OWN[1]]},
        ["route del default"],
    ),
    "a route that nobody tells of": (["route add 10.76.0.0/16 dev eth0"], {}, []),
    "its own subnet's": ([], {}, ["route del 10.88.0.0/16"]),
}


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["bridge", "ptp", "macvlan"])
@pytest.mark.parametrize("case", CASES)
def test_routes(either: Lab, pod: str, kind: str, case: str) -> None:
    commands, told, damages = CASES[case]
    body, result = attached(either, pod, kind)
    result = changed(either, pod, result, commands, told)
    either.call("CHECK", body, pod, before=result)
    for damage in damages:
        inside(pod, damage)
        with pytest.raises(CniFailed):
            either.call("CHECK", body, pod, before=result)
    either.call("DEL", body, pod, before=result)


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["bridge", "ptp", "macvlan"])
def test_addresses(either: Lab, pod: str, kind: str) -> None:
    """One more that the result tells of must stand; one that it has no more needn't."""
    body, result = attached(either, pod, kind)
    more = {"address": "10.88.3.3/16", "interface": result["ips"][0]["interface"]}
    both = changed(either, pod, result, ["addr add 10.88.3.3/16 dev eth0"], {"ips": [*result["ips"], more]})
    either.call("CHECK", body, pod, before=both)
    inside(pod, "addr del 10.88.3.3/16 dev eth0")
    with pytest.raises(CniFailed) as failed:
        either.call("CHECK", body, pod, before=both)
    if not either.theirs:
        assert failed.value.msg == "address eth0 10.88.3.3/16 is missing in the pod"
    either.call("CHECK", body, pod, before=result)
    either.call("CHECK", body, pod, before=result | {"ips": []})
    either.call("DEL", body, pod, before=result)


@pytest.mark.kernel
def test_an_address_that_is_its_own_subnet(either: Lab, pod: str) -> None:
    """No route leads to it, and none is wanted but by the reference."""
    body = conf(either, "bridge")
    body |= {"isGateway": False, "ipam": {"type": "static", "addresses": [{"address": "10.88.0.7/32"}]}}
    result = either.call("ADD", body, pod)
    try:
        either.call("CHECK", body, pod, before=result)
    except CniFailed:
        assert either.theirs
    else:
        assert not either.theirs


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["bridge", "ptp", "macvlan"])
def test_pods_that_the_reference_attached(lab: Lab, pod: str, kind: str) -> None:
    """By ours: how its routes came about is not known, and another plugin's has no gateway."""
    executable = lab.bin / kind
    executable.rename(lab.bin / "kept")
    executable.symlink_to(Path(release().directory) / kind)
    body, result = attached(lab, pod, kind)
    (lab.bin / "kept").rename(executable)
    result = changed(lab, pod, result, ["route add 10.76.0.0/16 dev eth0"], {"routes": [*OWN, ONLINK]})
    lab.call("CHECK", body, pod, before=result)
    inside(pod, "route del 10.76.0.0/16")
    with pytest.raises(CniFailed, match=r"route 254 10\.76\.0\.0/16 is missing in the pod"):
        lab.call("CHECK", body, pod, before=result)
    lab.call("DEL", body, pod, before=result)


def test_what_the_node_knows_is_asked_for_where_the_result_has_it() -> None:
    """A route that the result still has must be as it was made; and what no result tells of, always."""
    ways = (Way(dst="10.9.0.0/16", gw="10.8.0.1"), Way(dst="10.7.0.0/16", gw="10.8.0.1", priority=5))
    want = BridgePod(bridge="cni0", link="veth1", mac="02:00:00:00:00:01", routes=ways)
    piece = Piece(container="c", ifname="eth0", configuration="n", want=want, addresses=("10.8.0.2/16",))
    objects = dropin.in_pod(piece)

    def left(*routes: Way, addresses: tuple[str, ...] = piece.addresses, ours: bool = True) -> list[str]:
        told = Told(addresses=addresses, subnets=(), routes=routes)
        return [" ".join(one.key) for one in required(piece, objects, told, ours)]

    link, address = "link eth0", "address eth0 10.8.0.2/16"
    first, second = "route 254 10.9.0.0/16 0", "route 254 10.7.0.0/16 5"
    assert left(*ways) == [link, address, first, second]
    assert left(Way(dst="10.9.0.0/16"), Way(dst="10.7.0.0/16", gw="10.8.0.9")) == [link, address, first]
    assert left(Way(dst="10.7.0.0/16", priority=6), addresses=()) == [link]
    assert left(*ways, ours=False) == [link]
