"""What docs/transports.md shows of real labs: made here, compared by its test, written by ``make docs``.

A block stands between ``<!-- lab: PRESET -->`` and ``<!-- end -->``; all around it is written by hand. Links'
indexes and the MACs of nodes' and pods' own links are left out, all else is as printed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from lab_tools import podway, running

from podway.lab import lab as labs
from podway.lab.guide import line
from podway.lab.place import find

PAGE = Path(__file__).parents[2] / "docs" / "transports.md"
BLOCK = re.compile(r"(<!-- lab: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
INDEX = re.compile(r"^\d+: |@if\d+|@NONE", re.MULTILINE)
DEVICE = re.compile(r"vxlan id .*? udp6zerocsumrx|vxlan id .*?noudp6zerocsumrx")
MTU = re.compile(r"mtu \d+")

#: what is shown of node1, by preset; {tunnel} is its VXLAN device
COMMANDS = {
    "docker": ("ip -br -4 addr show pw-pods", "ip route show dev pw-pods"),
    "flannel-host-gw": ("ip route show proto 112", "ip -6 route show proto 112"),
    "flannel-vxlan": (
        "ip -d link show {tunnel}",
        "ip route show proto 112",
        "ip -6 route show proto 112",
        "ip neigh show dev {tunnel}",
        "bridge fdb show dev {tunnel}",
    ),
    "calico-bgp": ("ip route show proto bird", "ip route show proto 112", "ip -6 route show proto bird"),
}


def block(preset: str, name: str) -> str:
    """The block of a preset, from a lab called ``name`` that runs only for it."""
    nodes, pods, far = ("1", "2", "node1-2") if preset == "docker" else ("2", "1", "node2-1")
    with running(name, "--nodes", nodes, "--pods", pods, "--preset", preset):
        lines = [*_objects(preset, name), *_way(name, "node1-1", far)]
        machines = ("node1-1", far, "node1", "node2")[: 2 + int(nodes)]
        macs = {_mac(name, one): f"(eth0 of {one})" for one in machines}
    text = "\n".join(f"    {one}".rstrip() for one in lines)
    for mac, words in macs.items():
        text = text.replace(mac, words)
    return f"\n{text}\n\n"


def _objects(preset: str, name: str) -> Iterator[str]:
    links = json.loads(_inside(name, "ip -j link show type vxlan") or "[]")
    tunnel = next((str(link["ifname"]) for link in links if link), "")
    for command in COMMANDS[preset]:
        words = command.format(tunnel=tunnel)
        yield f"node1$ {words}"
        text = INDEX.sub("", _inside(name, words))
        if "-d link" in command:
            mtu, device = MTU.search(text), DEVICE.search(text)
            assert mtu and device, text
            yield from (f"{tunnel}: {mtu[0]}", f"    {device[0]}", "")
        else:
            yield from (*sorted(text.splitlines()), "")


def _way(name: str, sender: str, receiver: str) -> Iterator[str]:
    sightings = labs.way(find(name), sender, receiver)
    yield f"an echo request from {sender} to {receiver}"
    for one, before in zip(sightings, [None, *sightings], strict=False):
        yield f"  {line(one, before, clock=False)}"


def _mac(name: str, node: str) -> str:
    text = podway("exec", "--name", name, node, "--", "ip", "-j", "link", "show", "eth0").stdout
    return str(json.loads(text)[0]["address"])


def _inside(name: str, command: str) -> str:
    return podway("exec", "--name", name, "node1", "--", *command.split()).stdout


def main() -> None:
    """Write every block anew."""
    text = PAGE.read_text()
    name = f"docs{os.getpid()}"
    PAGE.write_text(BLOCK.sub(lambda found: f"{found[1]}{block(found[2], name)}{found[3]}", text))


if __name__ == "__main__":
    sys.exit(main())
