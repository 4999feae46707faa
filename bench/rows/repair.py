"""How soon what was deleted is back: from the kernel's event of the deletion to that of the repair.

Both are taken by one netlink listener outside of the agent, so neither the deleting command's start
nor the agent's own clock is in the figure.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from bench import podway, wiring
from bench.host import Host
from bench.measure import Row, median_row, quantile_row

# linux/netlink.h, rtnetlink.h, netconf.h, netfilter/nfnetlink.h, netfilter/nf_tables.h
NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
GROUPS = {NETLINK_ROUTE: (5, 7, 24), NETLINK_NETFILTER: (7,)}  # addresses, routes, netconf; nftables
NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWNETCONF = 20, 21, 24, 25, 80
NEWRULE, DELRULE = 10 << 8 | 6, 10 << 8 | 8  # NFNL_SUBSYS_NFTABLES with NFT_MSG_NEWRULE, _DELRULE
NETCONF_ALL = struct.pack("=HHi", 8, 1, -1)  # NETCONFA_IFINDEX, NETCONFA_IFINDEX_ALL
FORWARDING = {value: struct.pack("=HHi", 8, 2, value) for value in (0, 1)}  # NETCONFA_FORWARDING

PATIENCE = 30.0  # seconds until a repair counts as missing
IN_PEACE = 4  # repairs of one key an agent is asked for: more within 10 s is a fight, and it backs off
SETTLE = 0.5  # seconds after READY until what was deferred is done
PAUSE = 0.05  # seconds between two deeds

Seen = Callable[[int, bytes], bool]  # (type, payload) of a message


class Deed(NamedTuple):
    """What takes a thing away, and how its going and its return look to a listener."""

    command: list[str]
    protocol: int
    gone: Seen
    back: Seen


def repaired(rounds: int, directory: Path) -> list[Row]:
    """A route, the bridge's address, an nft rule and ip_forward: p50 and p99; four samples a round."""
    taken: dict[str, list[float]] = {}
    with wiring.pods("ours") as pods, wiring.cluster(directory) as nodes, ExitStack() as stack:
        stack.enter_context(nodes[1].agent())
        far = nodes[1].attach(pods[2])
        for turn in range(rounds):
            with nodes[0].agent():
                if turn == 0:
                    nodes[0].attach(pods[0])
                wiring.answers(pods[0], far)
                time.sleep(SETTLE)
                _round(nodes[0], taken)
    rows = []
    for name, samples in taken.items():
        rows.append(median_row(f"repair of {name}, p50", "ms", samples))
        rows.append(quantile_row(f"repair of {name}, p99", "ms", 0.99, samples, goal="repair"))
    return rows


def _round(node: podway.Node, taken: dict[str, list[float]]) -> None:
    for _ in range(IN_PEACE):
        for name, deed in _deeds(node.host).items():
            taken.setdefault(name, []).append(_once(node.host, name, deed))
            time.sleep(PAUSE)


def _deeds(node: Host) -> dict[str, Deed]:
    """One of each kind, as the node has them now: the next rule's handle is another one."""
    routes = json.loads(node.run("ip -4 -j route"))
    block = next(route["dst"] for route in routes if route.get("gateway") == "192.0.2.2")
    bridge, address = _gateway(node)
    chain, handle = _rule(node)
    prefix, gateway = (socket.inet_aton(text.partition("/")[0]) for text in (block, address))
    route = ["ip", "route", "del", block]
    removed = ["ip", "addr", "del", address, "dev", bridge]
    rule = ["nft", "delete", "rule", *chain, "handle", str(handle)]
    lost, found = _marked(DELRULE, b"podway\0"), _marked(NEWRULE, b"podway\0")
    forward = ["sysctl", "-qw", "net.ipv4.ip_forward=0"]
    return {
        "route": Deed(route, NETLINK_ROUTE, _marked(DELROUTE, prefix), _marked(NEWROUTE, prefix)),
        "address": Deed(removed, NETLINK_ROUTE, _marked(DELADDR, gateway), _marked(NEWADDR, gateway)),
        "nft rule": Deed(rule, NETLINK_NETFILTER, lost, found),
        "sysctl": Deed(forward, NETLINK_ROUTE, _forwarding(0), _forwarding(1)),
    }


def _marked(wanted: int, mark: bytes) -> Seen:
    return lambda kind, payload: kind == wanted and mark in payload


def _forwarding(value: int) -> Seen:
    marks = (NETCONF_ALL, FORWARDING[value])
    return lambda kind, payload: kind == NEWNETCONF and all(mark in payload for mark in marks)


def _gateway(node: Host) -> tuple[str, str]:
    """The pods' bridge, and its address with prefix length."""
    for link in json.loads(node.run("ip -4 -j addr")):
        for found in link["addr_info"]:
            if found["local"].startswith(wiring.POOL.removesuffix("0.0/16")):
                return link["ifname"], f"{found['local']}/{found['prefixlen']}"
    raise RuntimeError("no bridge has an address of the pool")


def _rule(node: Host) -> tuple[list[str], int]:
    """([family, table, chain], handle) of the first rule in a table of Podway's."""
    for item in json.loads(node.run("nft -j -a list ruleset"))["nftables"]:
        rule = item.get("rule")
        if rule and rule["table"] == "podway":
            return [rule["family"], rule["table"], rule["chain"]], rule["handle"]
    raise RuntimeError("no rule in a table of Podway's")


def _once(node: Host, name: str, deed: Deed) -> float:
    """Milliseconds from the event of the deletion to the event of the repair."""
    with node.entered(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, deed.protocol) as listener:
        listener.bind((0, 0))  # unbound it would hear nothing of what the kernel does by itself
        for group in GROUPS[deed.protocol]:
            listener.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        listener.settimeout(PATIENCE)
        process = subprocess.Popen(deed.command)
        try:
            gone = _wait(listener, deed.gone)
            return (_wait(listener, deed.back) - gone) * 1e3
        except TimeoutError:
            raise RuntimeError(f"{name}: no deletion, or no repair, within {PATIENCE:.0f} s") from None
        finally:
            process.wait()


def _wait(listener: socket.socket, seen: Seen) -> float:
    """When (monotonic seconds) the first datagram with such a message came. Raises TimeoutError."""
    while True:
        data = listener.recv(1 << 20)
        now = time.monotonic()
        if any(seen(kind, payload) for kind, payload in _messages(data)):
            return now


def _messages(data: bytes) -> list[tuple[int, bytes]]:
    """(Type, payload) of every message in a datagram (struct nlmsghdr, four-byte aligned)."""
    found, at = [], 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        found.append((kind, data[at + 16 : at + length]))
        at += (length + 3) & ~3
    return found
