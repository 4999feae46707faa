"""One node's kernel: observe what is Podway's, apply operations, gather facts.

Everything works in the calling thread's network namespace, and everything that writes does so on
one thread (the caller's duty). Pods' namespaces are visited for one call and left.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import threading
import time
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from podway.kernel import conntrack, lookup, namespaces, sysctl
from podway.kernel.foreign_rules import ForeignRules
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nftables import NETLINK_NETFILTER, Nft
from podway.kernel.passage import Firewalls
from podway.kernel.rtnetlink import Rtnetlink
from podway.kernel.wireguard import Wireguard
from podway.model import bgp
from podway.model.objects import (
    ALIAS_PREFIX,
    LOCAL_TABLE,
    ROUTE_PROTOCOL,
    Actual,
    Address,
    AnyObject,
    Key,
    Link,
    Op,
    OpResult,
    Qdisc,
    Route,
    Sysctl,
)
from podway.model.resources import NodeFacts, Uplink
from podway.model.wireguard import WG_KINDS

LINK_WATCH = 0.1  # seconds: the kernel's link watch takes a few milliseconds

#: links that hold a dead pod's veth until they are deleted together
DOOMED_GROUP = 0x706F64  # "pod"

NFT_KINDS = frozenset({"nftset", "nftelement", "nftchain"})
ALL_KINDS = (
    frozenset(
        {"link", "address", "route", "rule", "neighbour", "fdb", "qdisc", "filter", "sysctl", "passage"}
    )
    | NFT_KINDS
    | WG_KINDS
)

#: queueing disciplines that only somebody's configuration makes
SHAPERS = ("tbf", "htb", "ingress")


def _backend(op: Op) -> str:
    kind = op.key[0]
    if kind in ("sysctl", "passage"):
        return kind
    if kind in WG_KINDS:
        return "wireguard"
    return "nft" if kind in NFT_KINDS else "rtnetlink"


def is_owned(link: AnyObject) -> bool:
    """Whether Podway made this link."""
    return isinstance(link, Link) and bool(link.alias and link.alias.startswith(ALIAS_PREFIX))


class Kernel:
    """Sockets into the calling thread's network namespace. Raises Unavailable without nf_tables."""

    def __init__(self) -> None:
        self.rtnetlink = Rtnetlink()
        # what may happen beside the writer has sockets of its own: one is used by one thread at a time
        self._undertaker, self._flows = Rtnetlink(), NetlinkSocket(NETLINK_NETFILTER)
        self._burying, self._forgetting = threading.Lock(), threading.Lock()
        self.nft = Nft()
        self.wireguard = Wireguard(self.rtnetlink.index)
        self.firewalls = Firewalls(self.nft.run)
        self.foreign_rules = ForeignRules()

    @property
    def portids(self) -> frozenset[int]:
        """Netlink ports whose changes are Podway's own, not to be answered with a look."""
        return frozenset({self.rtnetlink.portid, self._undertaker.portid, *self.nft.portids})

    def close(self) -> None:
        self.wireguard.close()
        self.foreign_rules.close()
        self.firewalls.close()
        self.nft.close()
        self._flows.close()
        self._undertaker.close()
        self.rtnetlink.close()

    def delete_doomed(self) -> None:
        """Delete all links of ``DOOMED_GROUP`` at once; may be done on another thread."""
        with self._burying:
            self._undertaker.delete_group(DOOMED_GROUP)

    def forget_udp(self, ports: Collection[tuple[str, int]]) -> None:
        """Forget the UDP flows to (address or "" for all, port); may be done on another thread.

        Its socket stays open: closing one keeps nf_tables locked until the kernel is done with what was
        deleted before."""
        with self._forgetting:
            conntrack.forget_udp(self._flows, ports)

    def observe(
        self, kinds: Collection[str] = ALL_KINDS, sysctls: Iterable[str] = (), adopted: Collection[Key] = ()
    ) -> Actual:
        """All links, and everything else of ``kinds`` that is Podway's.

        ``sysctls``: the paths to read. ``adopted``: keys of objects that Podway put on a foreign link.
        """
        actual: Actual = {}
        links = self.rtnetlink.dump("link")
        owned = {link.name for link in links.values() if isinstance(link, Link) and is_owned(link)}
        actual.update(links)
        if "address" in kinds:
            found = self.rtnetlink.dump("address", refresh=False)
            actual.update({k: a for k, a in found.items() if _is_own_address(a, owned) or k in adopted})
        if "route" in kinds:
            actual.update(self.rtnetlink.dump("route", protocol=ROUTE_PROTOCOL, refresh=False))
        if "rule" in kinds:
            rules = self.rtnetlink.dump("rule")
            actual.update({k: r for k, r in rules.items() if getattr(r, "protocol", 0) == ROUTE_PROTOCOL})
        tunnels = {link.name for link in links.values() if isinstance(link, Link) and link.vxlan} & owned
        for name in tunnels:
            for kind in {"neighbour", "fdb"} & set(kinds):
                actual.update(self._dump_of(kind, name))
        if WG_KINDS & set(kinds):
            actual.update(self.wireguard.observe(_wireguards(links) & owned))
        limited = owned | {key[1] for key in adopted if key[0] == "qdisc"}
        if "qdisc" in kinds and limited:
            queues = self.rtnetlink.dump("qdisc", refresh=False)
            actual.update({k: q for k, q in queues.items() if _is_own_shaper(q, limited)})
            shaped = {q.link for q in queues.values() if isinstance(q, Qdisc) and q.kind == "ingress"}
            for name in shaped & limited:
                actual.update(self._dump_of("filter", name, "ffff:"))
        if NFT_KINDS & set(kinds):
            actual.update(self.nft.observe())
        if "passage" in kinds:
            actual.update(self.firewalls.observe())
        if "sysctl" in kinds:
            actual.update(sysctl.observe(sysctls))
        return actual

    def look_up(self, objects: Iterable[AnyObject]) -> Actual:
        """Of some objects those that stand, however they are now and whosever; others may come along."""
        wanted = list(objects)
        others = {one.key for one in wanted if not isinstance(one, lookup.SINGLE)}
        found = self.observe({key[0] for key in others}, adopted=others) if others else {}
        return found | lookup.look_up(
            self.rtnetlink, self.nft, (one for one in wanted if one.key not in others)
        )

    def look_up_inside(self, namespace: int, objects: Iterable[AnyObject]) -> Actual:
        """The same in a pod's namespace, where nothing of nftables is looked for."""
        wanted = list(objects)
        with namespaces.entered(namespace):
            if all(isinstance(one, Sysctl) for one in wanted):
                return sysctl.observe(one.key[1] for one in wanted)
            inside = Rtnetlink()
            try:
                return lookup.look_up(inside, None, wanted)
            finally:
                inside.close()

    def _dump_of(self, kind: str, link: str, parent: str = "") -> Actual:
        """What stands on one link; nothing when it went since it was seen."""
        try:
            return self.rtnetlink.dump(kind, link=link, parent=parent, refresh=False)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return {}

    def met(self) -> set[tuple[str, str]]:
        """(link, public key) of each peer that a device of Podway's has ever made a handshake with."""
        links = self.rtnetlink.dump("link")
        ours = [name for name in _wireguards(links) if is_owned(links["link", name])]
        return {(one.device.link, key) for one in self.wireguard.look(ours) for key in one.met}

    def learned(self, to: Container[str] | None = None) -> list[Route]:
        """Routes that Podway's BIRD has brought here: all, or those to these prefixes."""
        routes = self.rtnetlink.dump("route", protocol=bgp.PROTOCOL, to=to).values()
        return [route for route in routes if isinstance(route, Route) and bgp.is_learned(route)]

    def apply(self, ops: Sequence[Op], pods: Mapping[str, int] | None = None) -> list[OpResult]:
        """Apply in order. One failure doesn't stop operations that don't depend on it.

        ``pods`` maps a Peer's namespace name to an open descriptor.
        """
        results: list[OpResult] = []
        for backend, run in groupby(ops, _backend):
            batch = list(run)
            if backend == "sysctl":
                results += sysctl.apply(batch)
            elif backend == "passage":
                results += self.firewalls.apply(batch)
            elif backend == "nft":
                results += self.nft.apply(batch)
            elif backend == "wireguard":
                results += self.wireguard.apply(batch)
            else:
                results += self.rtnetlink.apply(batch, pods or {})
        return results

    def until_they_send(self, names: Iterable[str]) -> None:
        """Wait for a link whose other end was just brought up, then for its bridge; but not for long."""
        end = time.monotonic() + LINK_WATCH
        for name in names:
            while not self.rtnetlink.is_running(name) and time.monotonic() < end:
                time.sleep(LINK_WATCH / 200)

    def apply_inside(
        self, namespace: int, ops: Sequence[Op], indexes: Mapping[str, int] | None = None
    ) -> list[OpResult]:
        """Apply in a pod's namespace, which no socket of ours outlives.

        ``indexes``: link → ifindex there, where known."""
        results: list[OpResult] = []
        with namespaces.entered(namespace), contextlib.ExitStack() as stack:
            inside: Rtnetlink | None = None
            for backend, run in groupby(ops, _backend):
                if backend == "sysctl":
                    results += sysctl.apply(list(run))
                    continue
                if inside is None:
                    inside = stack.enter_context(contextlib.closing(Rtnetlink()))
                    for name, index in (indexes or {}).items():
                        inside.learn(name, index)
                results += inside.apply(list(run))
        return results

    def observe_inside(self, namespace: int) -> Actual:
        """Links, addresses, routes and rules of a pod's namespace."""
        with namespaces.entered(namespace):
            inside = Rtnetlink()
            try:
                actual: Actual = {}
                for kind in ("link", "address", "route", "rule"):
                    actual.update(inside.dump(kind, refresh=False))
                return actual
            finally:
                inside.close()

    def resize_inside(self, namespace: int, ifname: str, links: int, routes: int, before: int) -> str:
        """Set the MTU of a pod's interface and of its routes (0: none of their own; ``before`` what Podway
        set last), in the order in which no packet is too large for the link. Returns why not, "" if done."""
        with namespaces.entered(namespace):
            inside = Rtnetlink()
            try:
                have = inside.get_link(ifname)
                if have is None:
                    return f"there is no {ifname}"
                resize = [Op(Link(name=ifname, kind=have.kind, mtu=links, up=None), have)]
                found = [r for r in inside.dump("route").values() if isinstance(r, Route) and r.dev == ifname]
                own = [r for r in found if _follows(r, routes, before)]
                narrow = [Op(msgspec.structs.replace(r, mtu=routes), r) for r in own if r.mtu != routes]
                # where a link grows, the kernel lifts the mtu of IPv6 routes that had the link's
                again = [Op(msgspec.structs.replace(r, mtu=routes), r) for r in own if ":" in r.dst]
                if not routes and links <= (have.mtu or 0):
                    results = inside.apply(resize + narrow)
                else:
                    results = inside.apply(narrow + resize + again)
                return next((f"{' '.join(r.op.key)}: {r.error}" for r in results if r.errno), "")
            finally:
                inside.close()

    def link_inside(self, namespace: int, ifname: str) -> Link | None:
        """One link in a pod's namespace, None when there is none."""
        found = self.look_up_inside(namespace, [Link(name=ifname, kind="")]).get(("link", ifname))
        return found if isinstance(found, Link) else None

    def index_inside(self, namespace: int, ifname: str) -> int:
        """The ifindex of a link in a pod's namespace, 0 when there is none."""
        with namespaces.entered(namespace):
            inside = Rtnetlink()
            try:
                return inside.index(ifname)
            except OSError:
                return 0
            finally:
                inside.close()

    def facts(self, name: str, ignored: Collection[str] = (), targets: Collection[str] = ()) -> NodeFacts:
        """Who this node is: its uplinks are the links with a global address that aren't Podway's.

        ``ignored``: names of adopted bridges. ``targets``: addresses whose ``towards`` is asked for. The
        uplink with the best default route comes first.
        """
        links = [link for link in self.rtnetlink.dump("link").values() if isinstance(link, Link)]
        found_addresses = self.rtnetlink.dump("address", refresh=False).values()
        addresses = [a for a in found_addresses if isinstance(a, Address)]
        routes = self.rtnetlink.dump("route", refresh=False).values()
        metrics: dict[str, int] = {}
        for route in routes:
            if isinstance(route, Route) and route.dst in ("0.0.0.0/0", "::/0"):
                metrics[route.dev] = min(route.metric, metrics.get(route.dev, route.metric))
        uplinks = [
            Uplink(
                name=link.name,
                mtu=link.mtu or 0,
                addresses=tuple(
                    a.address
                    for a in addresses
                    if a.link == link.name and _is_global(a.address) and not a.passing
                ),
                mac=link.mac or "",
                accept_ra=sysctl.read(f"net/ipv6/conf/{link.name}/accept_ra") in ("1", "2"),
            )
            for link in links
            if link.name != "lo" and not is_owned(link) and link.name not in ignored
        ]
        found = [uplink for uplink in uplinks if uplink.addresses]
        return NodeFacts(
            name=name,
            uplinks=tuple(
                sorted(found, key=lambda u: (u.name not in metrics, metrics.get(u.name, 0), u.name))
            ),
            towards={target: source_towards(target) for target in targets},
            adopted={
                bridge: tuple(a.address for a in addresses if a.link == bridge and _is_global(a.address))
                for bridge in ignored
            },
            gates=self.firewalls.gates(),
        )


def _wireguards(links: Actual) -> set[str]:
    return {link.name for link in links.values() if isinstance(link, Link) and link.kind == "wireguard"}


def _follows(route: Route, routes: int, before: int) -> bool:
    """Whether a pod's route is to have the MTU ``routes``: not one that somebody made smaller still."""
    if route.type != "unicast" or route.table == LOCAL_TABLE or route.dst.startswith(("fe80:", "ff00:")):
        return False
    return route.mtu in (0, before, routes) or route.mtu > routes > 0


def source_towards(target: str) -> str:
    """The address that a packet to ``target`` would carry, "" without a route; nothing is sent."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with contextlib.closing(socket.socket(family, socket.SOCK_DGRAM)) as asking:
        try:
            asking.connect((target, 9))  # discard, RFC 863
        except OSError:
            return ""
        return str(asking.getsockname()[0])


def _is_global(address: str) -> bool:
    parsed = ipaddress.ip_interface(address).ip
    return not (parsed.is_link_local or parsed.is_loopback or parsed.is_multicast)


def _is_own_address(address: AnyObject, owned: Collection[str]) -> bool:
    """On an owned link, and not one that the kernel itself gave."""
    return isinstance(address, Address) and address.link in owned and _is_global(address.address)


def _is_own_shaper(queue: AnyObject, owned: Collection[str]) -> bool:
    return isinstance(queue, Qdisc) and queue.link in owned and queue.kind in SHAPERS
