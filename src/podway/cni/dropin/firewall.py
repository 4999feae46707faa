"""``firewall``: a pod passes the host's firewalls, as all do with ``spec.firewall: manage``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.model.dropin import Passed, Piece

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_BACKENDS = ("", "iptables", "firewalld")
_POLICIES = ("open", "same-bridge", "isolated")


def want(ask: Ask, before: Result) -> Passed | None:
    """None for a pod without an address. Raises CniError 7, naming the key."""
    backend, section = ask.section.text("backend"), ask.section
    if backend not in _BACKENDS:
        raise wrong(section.at("backend"), f"{backend!r} is neither iptables nor firewalld")
    if section.text("iptablesAdminChainName"):
        fix = "put what has to come before the pods' passes to the head of FORWARD after them"
        raise wrong(section.at("iptablesAdminChainName"), f"is not had: {fix}")
    ingress = section.text("ingressPolicy") or "open"
    if ingress not in _POLICIES:
        raise wrong(section.at("ingressPolicy"), f"{ingress!r} is none of {', '.join(_POLICIES)}")
    bridge = _bridge(before) if ingress != "open" else ""
    addresses = tuple(one.address.partition("/")[0] for one in before.ips)
    return Passed(addresses=addresses, bridge=bridge, ingress=ingress) if addresses or bridge else None


def _bridge(before: Result) -> str:
    name = before.interfaces[0].name if before.interfaces else ""
    if not name or before.interfaces[0].sandbox or config.ifname_problem(name):
        raise wrong("ingressPolicy", "needs a bridge as the first of prevResult's interfaces")
    return name


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """The first of its kind: until now nobody has followed what the host's firewalls do."""
    if not engine.planner.manages_firewalls:
        engine.look_at_firewalls()
    return piece


PLUGIN = Chained("firewall", want, prepare)
