"""Changing a lab that is up, from outside: faults, crashes, reboots, nodes that join and leave.

lab.json says what should be; it is written under the lab's lock, and ``change`` does it inside. What
fails half-way is done again, or undone, by the same command.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import msgspec

from podway.lab import lab, topology
from podway.lab.change import Complaint
from podway.lab.faults import Fault, check, touches
from podway.lab.place import Place, Saved
from podway.lab.topology import Topology, Wish
from podway.model.errors import Conflict, InvalidInput, Unavailable
from podway.model.problems import suggest


def partition(place: Place, fault: Fault) -> None:
    """Put a fault in force, beside those that are. Raises InvalidInput, Unavailable."""
    with place.changing() as saved:
        check(saved.topology, fault)
        if fault not in saved.faults:
            _faults(place, saved, (*saved.faults, fault))


def heal(place: Place, names: Sequence[str] = ()) -> tuple[Fault, ...]:
    """Take back all faults, or those that name one of ``names``; which."""
    with place.changing() as saved:
        gone = tuple(fault for fault in saved.faults if not names or touches(fault, names))
        _faults(place, saved, tuple(fault for fault in saved.faults if fault not in gone))
    return gone


def _faults(place: Place, saved: Saved, faults: tuple[Fault, ...]) -> None:
    place.save(msgspec.structs.replace(saved, faults=faults))
    try:
        _change(place, "faults")
    except BaseException:
        place.save(saved)
        raise


def crash(place: Place, node: str) -> None:
    """As if its power were cut. Raises InvalidInput, Unavailable."""
    with place.changing() as saved:
        _node(saved.topology, node)
        if node not in saved.crashed:
            place.save(msgspec.structs.replace(saved, crashed=(*saved.crashed, node)))
        _change(place, "crash", node)


def reboot(place: Place, node: str) -> None:
    """Crash it unless it is off already, and start it again, with its pods. Raises as ``crash``."""
    crash(place, node)
    with place.changing() as saved:
        on = tuple(one for one in saved.crashed if one != node)
        place.save(msgspec.structs.replace(saved, crashed=on))
        try:
            _change(place, "boot", node)
        except BaseException:
            place.save(saved)
            _change(place, "crash", node)
            raise


def add_node(place: Place, wish: Wish, network: str = "") -> Topology:
    """Let a node join; its pods attach to ``network`` ("" = the first). Raises InvalidInput, Conflict."""
    with place.changing() as saved:
        _joinable(saved.topology, wish, network)
        attached = dict.fromkeys(wish.pods, network) if network else {}
        try:
            after = topology.joined(saved.topology, wish, attached)
        except ValueError as error:
            raise InvalidInput(str(error), f"segment {wish.segments[0]}") from error
        new = msgspec.structs.replace(saved, topology=after)
        place.save(new)
        lab.make_room()
        try:
            _change(place, "join", wish.name)
            _change(place, "faults")  # "all others" now means one more
        except BaseException:
            _change(place, "leave", wish.name)
            place.save(saved)
            raise
    return after


def _joinable(known: Topology, wish: Wish, network: str) -> None:
    segments = [segment.name for segment in known.segments]
    if wish.segments[0] not in segments:
        what = f"{wish.segments[0]!r} is no segment"
        raise InvalidInput(what, "--segment", suggest(wish.segments[0], segments))
    if network and network not in known.networks:
        raise InvalidInput(f"{network!r} is no network", "--network", suggest(network, known.networks))
    taken = {name for machine in known.machines for name in (machine.name, *machine.pods)}
    for name in (wish.name, *wish.pods):
        if name in taken:
            raise Conflict(f"the lab has a {name!r} already", fix="another name")
    mtu = next(segment.mtu for segment in known.segments if segment.name == wish.segments[0])
    if wish.mtu > mtu:
        raise InvalidInput(f"{wish.mtu} is more than its segment carries, {mtu}", "--mtu")


def remove_node(place: Place, node: str) -> None:
    """Let a node leave for good: its pods stop, and its object and blocks go. Raises InvalidInput."""
    with place.changing() as saved:
        _node(saved.topology, node)
        if len(saved.topology.of("node")) == 1:
            raise InvalidInput(f"{node} is the last node", fix="podway lab down ends a lab")
        _change(place, "leave", node)
        after = topology.left(saved.topology, node)
        faults = tuple(fault for fault in saved.faults if not touches(fault, [node]))
        crashed = tuple(one for one in saved.crashed if one != node)
        place.save(msgspec.structs.replace(saved, topology=after, faults=faults, crashed=crashed))
        _change(place, "faults")


def _node(known: Topology, name: str) -> None:
    nodes = [node.name for node in known.of("node")]
    if name not in nodes:
        raise InvalidInput(f"{name!r} is no node of the lab", fix=suggest(name, nodes))


def _change(place: Place, action: str, node: str = "") -> None:
    """Run ``change`` inside. Raises Unavailable with its words."""
    script = [sys.executable, "-P", "-m", "podway.lab.change", place.name, str(place.directory)]
    command = lab.command(place, "", [*script, action, node])
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, pass_fds=(place.lock,))
    try:
        complaint = msgspec.json.decode(done.stdout, type=Complaint)
    except msgspec.MsgspecError:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(f"{action} failed: {''.join(words)}", f"lab {place.name}") from None
    if complaint.what:
        raise Unavailable(complaint.what, complaint.where, complaint.fix)
