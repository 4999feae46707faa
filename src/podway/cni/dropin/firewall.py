"""``firewall``: a pod passes the host's firewalls, as all do with ``spec.firewall: manage``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.dropin.previous import of_delete
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.cni.reader import Section
from podway.model.dropin import Passed, Piece
from podway.model.gate import Where
from podway.model.objects import family_of
from podway.plan.passage import forward

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

USUAL = "CNI-ADMIN"  # the reference plugin's name for the administrator's chain
_CHAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,27}")  # XT_EXTENSION_MAXNAMELEN less the closing byte
_TAKEN = ("INPUT", "FORWARD", "OUTPUT", "ACCEPT", "DROP", "REJECT", "RETURN", "QUEUE")
_BACKENDS = ("", "iptables", "firewalld")
_POLICIES = ("open", "same-bridge", "isolated")
_TRUSTED = ("", "trusted")  # zones of firewalld's by which all passes
#: chains that only firewalld makes, by nftables and by iptables
_FIREWALLD = (
    Where("nftables", "inet", "firewalld", "filter_FORWARD"),
    Where("nftables", "ip", "filter", "FORWARD_direct"),
)


def want(ask: Ask, before: Result) -> Passed | None:
    """None for a pod without an address. Raises CniError 7, naming the key."""
    backend, section = ask.section.text("backend"), ask.section
    if backend not in _BACKENDS:
        raise wrong(section.at("backend"), f"{backend!r} is neither iptables nor firewalld")
    first = section.text("iptablesAdminChainName")
    if first and (not _CHAIN.fullmatch(first) or first in _TAKEN):
        what = f"{first!r} is no name for a chain of one's own: letters, digits, _ . and -, at most 28"
        raise wrong(section.at("iptablesAdminChainName"), what)
    ingress = section.text("ingressPolicy") or "open"
    if ingress not in _POLICIES:
        raise wrong(section.at("ingressPolicy"), f"{ingress!r} is none of {', '.join(_POLICIES)}")
    section.text("firewalldZone")
    bridge = _bridge(before) if ingress != "open" else ""
    addresses = tuple(one.address.partition("/")[0] for one in before.ips)
    if not addresses and not bridge:
        return None
    return Passed(addresses=addresses, bridge=bridge, ingress=ingress, first=first)


def _bridge(before: Result) -> str:
    name = before.interfaces[0].name if before.interfaces else ""
    if not name or before.interfaces[0].sandbox or config.ifname_problem(name):
        raise wrong("ingressPolicy", "needs a bridge as the first of prevResult's interfaces")
    return name


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """The first of its kind: until now nobody has followed what the host's firewalls do.

    Rules that an administrator has in the reference plugin's usual chain count without being named."""
    _refuse_zone(engine, ask.section)
    if not engine.planner.manages_firewalls:
        engine.look_at_firewalls()
    want = piece.want
    if not isinstance(want, Passed) or want.first or not want.addresses:
        return piece
    places = {forward(family_of(address), engine.planner.inputs.facts) for address in want.addresses}
    if not any(engine.kernel.firewalls.has(msgspec.structs.replace(at, chain=USUAL)) for at in places):
        return piece
    return msgspec.structs.replace(piece, want=msgspec.structs.replace(want, first=USUAL))


def theirs(ask: Ask) -> tuple[str, ...]:
    """By what the reference plugin's DEL finds what it made: prevResult's addresses, of whatever IPAM."""
    before = of_delete(ask)
    return tuple(one.address.partition("/")[0] for one in before.ips) if before is not None else ()


def _refuse_zone(engine: NodeEngine, section: Section) -> None:
    """A zone that holds pods back can't be had, and isn't passed over in silence. Raises CniError 7."""
    zone, backend = section.text("firewalldZone"), section.text("backend")
    if zone in _TRUSTED or backend == "iptables":
        return
    if backend == "firewalld" or any(engine.kernel.firewalls.has(chain) for chain in _FIREWALLD):
        what = f"{zone}: Podway puts no pod into a zone of firewalld's, and lets it pass"
        fix = f"firewall-cmd --permanent --zone={zone} --add-source=SUBNET, and leave firewalldZone out"
        raise wrong(section.at("firewalldZone"), what, fix)


PLUGIN = Chained("firewall", want, prepare, theirs=theirs, repeats=True)
