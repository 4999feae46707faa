"""Faults: commands that damage what Podway made on a node, chosen at random from what stands there."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet import Machine

from podway.kernel import namespaces
from podway.model.objects import (
    Actual,
    Address,
    Fdb,
    Key,
    Link,
    Neighbour,
    NftChain,
    NftElement,
    Route,
)

STRANGER = "02:de:ad:00:00:01"


@dataclass
class Fault:
    """What is done, to which key, and what the journal must say was found ("" = anything)."""

    key: Key
    commands: list[list[str]]
    found: str = ""
    mend: list[list[str]] = field(default_factory=list)  # what the host itself does afterwards
    also: tuple[Key, ...] = ()  # keys that it damages besides
    over: bool = False  # as soon as it is done
    rogue: bool = False  # something is added, not taken away

    def __str__(self) -> str:
        return "; ".join(" ".join(command) for command in self.commands)


def words(text: str) -> list[list[str]]:
    """ "a b; c d" as commands."""
    return [command.split() for command in text.split("; ")]


def carry_out(machine: Machine, fault: Fault) -> bool:
    """Whether every command was possible (what a double fault took away already is not)."""
    with namespaces.entered(machine.place):
        done = [subprocess.run(command, capture_output=True, check=False) for command in fault.commands]
        for command in fault.mend:
            subprocess.run(command, capture_output=True, check=False)
    return all(one.returncode == 0 for one in done)


def is_ours(value: object) -> bool:
    """A link that Podway made."""
    return isinstance(value, Link) and (value.alias or "").startswith("podway:")


def _routes(actual: Actual) -> list[Fault]:
    faults = []
    for one in actual.values():
        if isinstance(one, Route):
            six = "-6 " if ":" in one.dst else ""
            metric = f" metric {one.metric}" if one.metric else ""
            faults.append(Fault(one.key, words(f"ip {six}route del {one.dst} proto 112{metric}"), "missing"))
            change = f"ip {six}route change blackhole {one.dst} proto 112{metric}"
            if not six and one.type != "blackhole":
                faults.append(Fault(one.key, words(change), "blackhole"))
    return faults


def _tunnels(actual: Actual) -> list[Fault]:
    faults = []
    for one in actual.values():
        if isinstance(one, Neighbour):
            change = f"ip neigh replace {one.address} lladdr {STRANGER} dev {one.link} nud permanent"
            faults.append(Fault(one.key, words(f"ip neigh del {one.address} dev {one.link}"), "missing"))
            faults.append(Fault(one.key, words(change), STRANGER))
        if isinstance(one, Fdb):
            entry = f"{one.mac} dev {one.link}"
            faults.append(Fault(one.key, words(f"bridge fdb del {entry} dst {one.dst} self"), "missing"))
            faults.append(
                Fault(one.key, words(f"bridge fdb replace {entry} dst 192.0.2.99 self permanent"), "missing")
            )
    return faults


def _links(actual: Actual) -> list[Fault]:
    faults = []
    for one in (one for one in actual.values() if isinstance(one, Link) and is_ours(one)):
        faults += [
            Fault(one.key, words(f"ip link del {one.name}"), "missing"),
            Fault(one.key, words(f"ip link set {one.name} down"), '"up":false'),
            Fault(one.key, words(f"ip link set {one.name} down; ip link set {one.name} up"), over=True),
            Fault(one.key, words(f"ip link set {one.name} mtu 1333"), "1333"),
        ]
        faults += [
            Fault(one.key, words(f"ip link set {one.name} alias mine"), '"alias":"mine"'),
            Fault(one.key, words(f"ip link set {one.name} name renamed0"), "missing"),
        ]
        if one.kind == "bridge":
            faults.append(
                Fault(one.key, words(f"ip link set {one.name} type bridge stp_state 1"), '"stp":true')
            )
            faults.append(Fault(one.key, words(f"ip link set {one.name} promisc on"), '"promisc":true'))
        if one.kind != "veth":
            faults.append(Fault(one.key, words(f"ip link set {one.name} address {STRANGER}"), STRANGER))
        elif one.master:
            faults.append(Fault(one.key, words(f"ip link set {one.name} nomaster"), '"master":""'))
            faults.append(
                Fault(one.key, words(f"bridge link set dev {one.name} hairpin off"), '"hairpin":false')
            )
    return faults


def _addresses(actual: Actual) -> list[Fault]:
    return [
        Fault(one.key, words(f"ip address del {one.address} dev {one.link}"), "missing")
        for one in actual.values()
        if isinstance(one, Address)
    ]


def _nft(actual: Actual) -> list[Fault]:
    faults = []
    tables: dict[str, tuple[Key, ...]] = {}
    for key in actual:
        if key[0].startswith("nft"):
            tables[key[1]] = (*tables.get(key[1], ()), key)
    for one in actual.values():
        if isinstance(one, NftElement):
            value = " . ".join(f'"{part}"' if part.startswith("p") else part for part in one.value)
            what = ["nft", "delete", "element", one.family, "podway", one.set, "{", value, "}"]
            faults.append(Fault(one.key, [what], "missing"))
        if isinstance(one, NftChain):
            if one.rules:
                faults.append(Fault(one.key, words(f"nft flush chain {one.family} podway {one.name}")))
            faults.append(
                Fault(one.key, words(f"nft flush table {one.family} podway"), also=tables[one.family])
            )
            faults.append(
                Fault(
                    one.key,
                    words(f"nft delete table {one.family} podway"),
                    "missing",
                    also=tables[one.family],
                )
            )
    return faults


def _settings(actual: Actual) -> list[Fault]:
    faults = [
        Fault(("sysctl", "net/ipv4/ip_forward"), words("sysctl -qw net.ipv4.ip_forward=0")),
        Fault(("sysctl", "net/ipv6/conf/all/forwarding"), words("sysctl -qw net.ipv6.conf.all.forwarding=0")),
    ]
    changed = []
    for one in (one for one in actual.values() if isinstance(one, Link) and is_ours(one)):
        if one.kind == "vxlan":
            changed.append((f"net/ipv4/conf/{one.name}/rp_filter", 1))
        if one.kind == "veth" and not one.master:  # a routed pod's
            changed.append((f"net/ipv4/conf/{one.name}/proxy_arp", 0))
    return faults + [
        Fault(("sysctl", path), words(f"sysctl -qw {path.replace('/', '.')}={value}"))
        for path, value in changed
    ]


def _underlay(machine: Machine) -> list[Fault]:
    """The host's own link: it flaps, its address goes and comes back."""
    four, six = f"192.0.2.{machine.number}/24", f"2001:db8::{machine.number:x}/64"
    again = words(f"ip address replace {six} dev eth0 nodad")
    return [
        Fault(("link", "eth0"), words("ip link set eth0 down; ip link set eth0 up"), mend=again, over=True),
        Fault(
            ("link", "eth0"),
            words(f"ip address del {four} dev eth0; ip address add {four} dev eth0"),
            mend=again,
            over=True,
        ),
    ]


def _rogue(machine: Machine) -> list[Fault]:
    """What looks like Podway's and is nobody's."""
    route = "10.244.199.0/24"
    return [
        Fault(
            ("route", "254", route, "0"),
            words(f"ip route add {route} via 192.0.2.99 proto 112"),
            "192.0.2.99",
            rogue=True,
        )
    ]


KINDS: list[Callable[[Actual], list[Fault]]] = [_routes, _tunnels, _links, _addresses, _nft, _settings]


def choose(machine: Machine, chance: random.Random, avoid: Callable[[Key], bool]) -> Fault:
    """One fault; kinds are equally likely, whatever there is most of."""
    actual = machine.observe()
    while True:
        number = chance.randrange(len(KINDS) + 2)
        faults = (
            KINDS[number](actual)
            if number < len(KINDS)
            else (_underlay, _rogue)[number - len(KINDS)](machine)
        )
        faults = [one for one in faults if not any(map(avoid, (one.key, *one.also)))]
        if faults:
            return chance.choice(faults)
