"""What prevResult tells a plugin of the pod's interface that it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podway.cni import config, result, runtime
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.paths import ON_LINK
from podway.cni.errors import CniError, wrong
from podway.cni.protocol import Result, Route
from podway.model.dropin import Path
from podway.plan.dropin.told import Told

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


def on_node(before: Result) -> list[str]:
    """The node's links that a result names."""
    return [one.name for one in before.interfaces if not one.sandbox and not config.ifname_problem(one.name)]


def of_delete(ask: Ask) -> Result | None:
    """A DEL's prevResult; None without, and where it can't be read: DEL goes on."""
    try:
        return result.previous(ask.section, ask.conf.version)
    except CniError:
        return None


def is_about(engine: NodeEngine, ask: Ask) -> bool:
    """Whether a DEL's prevResult is about the interface that stands in the pod now: its MAC is the same."""
    link = engine.kernel.link_inside(ask.living, ask.me.ifname) if ask.living >= 0 else None
    before = of_delete(ask)
    macs = {one.mac.lower() for one in before.interfaces if one.name == ask.me.ifname} if before else set()
    return link is not None and link.mac in macs


def told(ask: Ask, before: Result) -> tuple[str, Told]:
    """The MAC of the pod's interface, and what CHECK expects of it. Raises CniError 7 without one."""
    mine = [
        number
        for number, one in enumerate(before.interfaces)
        if one.name == ask.me.ifname and one.sandbox == ask.me.namespace
    ]
    if not mine:
        raise wrong("prevResult", f"has no interface {ask.me.ifname} in {ask.me.namespace}")
    ips = [
        runtime.interface(one.address) for one in before.ips if one.interface is None or one.interface in mine
    ]
    expected = Told(
        addresses=tuple(map(str, ips)),
        subnets=tuple(str(one.network) for one in ips),
        routes=tuple(map(_way, before.routes)),
    )
    return before.interfaces[mine[0]].mac.lower(), expected


def _way(route: Route) -> Path:
    try:
        prefix = runtime.prefix(route.dst)
    except ValueError:
        raise wrong("prevResult.routes", f"{route.dst!r} is not a prefix") from None
    gw = "" if route.gw in ("", ON_LINK) else runtime.address("prevResult.routes", route.gw)
    return Path(dst=prefix, gw=gw, priority=route.priority or 0)
