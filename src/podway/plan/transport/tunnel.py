"""What the ends of every tunnel have alike: names, addresses, MTUs, and the words for what is missing."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import NamedTuple

from podway.model.objects import Address, AnyObject, Sysctl
from podway.model.resources import Block, Network, Node, NodeFacts, Paths
from podway.plan import mtu
from podway.plan.notes import Note
from podway.plan.way import Way

PRESENCE = "169.254.1.2/32"  # its scope is the link: no packet has it as its source

Planned = tuple[tuple[AnyObject, ...], tuple[Note, ...]]


class Carriage(NamedTuple):
    """How a device's packets look underway: "UDP 8472", bytes around each, family of the outer addresses."""

    name: str
    around: int
    underlay: int


def device_name(prefix: str, way: Way) -> str:
    """Two ways stand side by side, so a device is named by its parameters: a prefix and a hash."""
    return prefix + hashlib.sha256(way.text.encode()).hexdigest()[:10]


def loose(link: str) -> Sysctl:
    """``rp_filter`` 2: each direction goes by the way that its sender chose, strict would drop one."""
    return Sysctl(path=f"net/ipv4/conf/{link}/rp_filter", value="2")


def outer(node: Node | None, way: Way) -> str:
    """The node's end of the tunnel, "" when it has no address of the family."""
    return node.address(way.underlay) if node is not None else ""


def inner(cidr: str) -> str:
    """What the owner's end of the tunnel has of a block: its first address, which no pod gets."""
    return str(ipaddress.ip_network(cidr).network_address)


def address(link: str, block: Block) -> Address:
    """The address that a node shows when it talks to pods elsewhere itself."""
    first = ipaddress.ip_network(block.cidr).network_address
    return Address(link=link, address=f"{first}/{first.max_prefixlen}", nodad=True)


def presence(link: str) -> Address:
    """What the end of a tunnel has where its node may have no block to take an address of, but has borrowed
    one: a link without any takes in nothing that isn't answered by it, however loose ``rp_filter`` (seen)."""
    return Address(link=link, address=PRESENCE, nodad=True)


def size(network: Network, way: Way, told: Paths | None, facts: NodeFacts) -> int:
    """A device's MTU: not below what pods still send by the way."""
    sent = told.sizes.sends if told is not None and told.sizes is not None and way.text in told.sends else 0
    return max(mtu.of_way(network, way, facts), sent)


def lacking(subject: str, who: str, way: Way, towards: str, fix: str) -> Note:
    """A node has no address of the tunnel's family; ``towards``: "to" or "from"."""
    return Note(subject, f"{who} has no IPv{way.underlay} address to tunnel {towards}", fix)
