"""A short walk through a running lab: a pod, its node, its rules, and one packet's way."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from podway.lab import lab
from podway.lab.attach import INTERFACE
from podway.lab.place import Place
from podway.lab.topology import Topology
from podway.lab.way import Sighting
from podway.model.objects import ROUTE_PROTOCOL

if TYPE_CHECKING:
    from rich.console import Console

#: Of a node's rules, those that a newcomer asks about first (by the reason in their comment).
RULES = ("IPv4 source is not the pod's own", "a pod's packet leaves the cluster")


def walk(screen: Console, place: Place, whole: bool = True) -> list[Sighting]:
    """Show it, with real output from inside; the way of the packet alone unless ``whole``. What was seen."""
    topology = place.saved().topology
    sender, receiver = _ends(topology)
    if sender is None:
        screen.print("This lab has no pods to look at.")
        return []
    node = topology.home(sender)
    guide = _Guide(screen, place)
    if whole:
        guide.title(f"The pod {sender}: an ordinary interface, and one way out")
        guide.show(sender, "ip", "-br", "addr", "show", INTERFACE)
        guide.show(sender, "ip", "route")
    peers = ", and a route to each peer's pods" if len(topology.of("node")) > 1 else ""
    routed = " scope link" in lab.run(place, node, "ip", "route", "show", "proto", str(ROUTE_PROTOCOL))
    attach = "no bridge, a route to each of its pods" if routed else "a bridge with the pods' gateway"
    guide.title(f"Its node {node}: {attach}{peers}")
    if whole:
        guide.show(node, "ip", "-br", "addr")
    guide.show(node, "ip", "route")
    if whole:
        guide.title(
            "Two of its rules: nobody sends as another, and only what leaves the cluster is translated"
        )
        guide.rules(node)
    if receiver is None:
        return []
    guide.title(f"One packet's way, from {sender} to {receiver}: what every link on it saw")
    return guide.way(sender, receiver)


def _ends(topology: Topology) -> tuple[str | None, str | None]:
    """A pod, and one on another node if there is one."""
    firsts = [machine.pods[0] for machine in topology.machines if machine.pods]
    rest = [pod for machine in topology.machines for pod in machine.pods[1:]]
    sender, receiver, *_ = [*firsts, *rest, None, None]
    return sender, receiver


class _Guide:
    def __init__(self, screen: Console, place: Place) -> None:
        self._screen = screen
        self._place = place

    def title(self, words: str) -> None:
        self._screen.print(f"\n{words}", style="bold", soft_wrap=True)

    def show(self, target: str, *command: str) -> None:
        """A command, as somebody would type it, and what it printed."""
        self._screen.print(f"$ podway lab exec {target} -- {' '.join(command)}", style="cyan", soft_wrap=True)
        self._lines(lab.run(self._place, target, *command).rstrip().splitlines())

    def rules(self, node: str) -> None:
        command = ("nft", "list", "table")
        if shutil.which("nft") is None:
            self._lines(["(the nft command is not installed: apt install nftables shows them)"])
            return
        for family, reason in zip(("bridge", "inet"), RULES, strict=True):
            words = (*command, family, "podway")
            self._screen.print(f"$ podway lab exec {node} -- {' '.join(words)}", style="cyan", soft_wrap=True)
            lines = lab.run(self._place, node, *words).splitlines()
            shown = [line.strip() for line in lines if reason in line]
            self._lines([*shown[:1], f"… {sum('comment' in line for line in lines)} rules in all"])

    def way(self, sender: str, receiver: str) -> list[Sighting]:
        sightings = lab.way(self._place, sender, receiver)
        if not sightings:
            self._lines([f"nothing was seen: podway lab test says whether {receiver} is reached"])
            return []
        first = sightings[0]
        self._lines([f"{first.source} → {sightings[-1].target}"])
        self._lines(line(one, before) for one, before in zip(sightings, [None, *sightings], strict=False))
        return sightings

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._screen.print(f"  {line}", markup=False, soft_wrap=True)


def line(one: Sighting, before: Sighting | None, clock: bool = True) -> str:
    """Time (or none), place, and what has changed since the last link."""
    where = f"{one.namespace or '(segment)'} {one.link}"
    way = "out" if one.outgoing else "in"
    notes = []
    if before is None or one.ttl != before.ttl:
        notes.append(f"ttl {one.ttl}" + (", routed" if before is not None else ""))
    if one.target_mac and (before is None or one.target_mac != before.target_mac):
        notes.append(f"to {one.target_mac}")
    if before is not None and (one.source, one.target) != (before.source, before.target):
        notes.append(f"translated: {one.source} → {one.target}")
    if one.outer and (before is None or one.outer != before.outer):
        notes.append(f"inside {one.outer}")
    if before is not None and before.outer and not one.outer:
        notes.append("taken out")
    time = f"{one.at / 1000:7.1f} µs  " if clock else ""
    return f"{time}{where:26} {way:4} {', '.join(notes)}".rstrip()
