"""What the plugins have in common whose link stands in the pod alone, perhaps on another link."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin import ipam, options
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Made, Maker, Prepare
from podway.cni.dropin.paths import DEFAULTS
from podway.cni.errors import wrong
from podway.cni.protocol import Interface, Result
from podway.cni.reader import Section
from podway.cni.runtime import mac
from podway.model import names
from podway.model.dropin import InPod, InsideLink, Piece, Stacked
from podway.model.objects import Link, Route

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


def maker(
    name: str,
    want: Callable[[Ask, Result], InsideLink],
    kind: str,
    prepare: Prepare | None = None,
    needs_ipam: bool = False,
    source: Callable[[Ask, bool], ipam.Source] = ipam.source,
    segment: bool = True,
) -> Maker:
    """``kind``: IFLA_INFO_KIND of what the reference plugin makes."""

    def made(ask: Ask, given: Result) -> Made:
        value = want(ask, given)
        passing = names.dropin_link(ask.me.container, ask.me.ifname, ask.conf.name)
        ips = tuple(msgspec.structs.replace(one, interface=0) for one in given.ips)
        return Made(msgspec.structs.replace(value, link=passing), msgspec.structs.replace(given, ips=ips))

    ready: Prepare = prepare or (lambda engine, ask, piece: piece)
    return Maker(name, made, result, ready, needs_ipam, kind=kind, source=source, segment=segment)


def result(ask: Ask, piece: Piece, given: Result, engine: NodeEngine) -> Result:
    """The pod's side alone; its addresses and routes."""
    assert isinstance(piece.want, InPod)
    interface = Interface(name=piece.ifname, mac=piece.want.mac, sandbox=ask.me.namespace)
    return options.answer(ask, (interface,), given)


def own_mac(ask: Ask, given: Result) -> str:
    """That which was asked for or is configured, else one that follows from the first address."""
    first = given.ips[0].address if given.ips else f"{ask.me.container}/{ask.me.ifname}"
    return options.asked_mac(ask) or mac(ask.section) or names.pod_mac(first)


def master(section: Section) -> str:
    """``master``, "" when absent. Raises CniError 7 for what can be no link's name."""
    name = section.text("master")
    if name and (problem := config.ifname_problem(name)):
        raise wrong("master", f"{name!r} {problem}")
    return name


def settled(engine: NodeEngine, ask: Ask, piece: Piece, larger: bool = False) -> tuple[Piece, Link]:
    """With the master's name, by default that of the default route, and the master.

    Raises CniError 7 when there is none, or its MTU is too small; ``larger``: the kernel takes more."""
    want = piece.want
    assert isinstance(want, Stacked)
    where = "in the pod" if want.inside else "on the node"
    name = want.master or _default(engine, ask, want.inside)
    if not name:
        raise wrong("master", f"is missing, and there is no default route {where} to take it from")
    kernel = engine.kernel
    found = kernel.link_inside(ask.call.pod_fd, name) if want.inside else kernel.rtnetlink.get_link(name)
    if found is None:
        raise wrong("master", f"there is no link {name} {where}")
    if want.mtu > (found.mtu or 0) and not larger:
        raise wrong("mtu", f"{want.mtu} is more than the {found.mtu} of {name}")
    return msgspec.structs.replace(piece, want=msgspec.structs.replace(want, master=name)), found


def with_its_mac(piece: Piece, lower: Link) -> Piece:
    """A link that shares its master's MAC."""
    return msgspec.structs.replace(piece, want=msgspec.structs.replace(piece.want, mac=lower.mac or ""))


def _default(engine: NodeEngine, ask: Ask, inside: bool) -> str:
    """The link of the best default route, IPv4's first."""
    found = engine.kernel.observe_inside(ask.call.pod_fd) if inside else engine.kernel.rtnetlink.dump("route")
    routes = [one for one in found.values() if isinstance(one, Route) and one.dev and one.type == "unicast"]
    for dst in DEFAULTS.values():
        ours = [one for one in routes if one.dst == dst]
        if ours:
            return min(ours, key=lambda one: one.metric).dev
    return ""
