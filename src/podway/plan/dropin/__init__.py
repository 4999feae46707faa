"""What pieces of the drop-in plugins want of the kernel: one pure function per kind and side.

A piece's host side is a fragment of the plan: repaired, explained and removed like everything else. Its pod
side is applied at ADD and verified by CHECK; nobody watches a pod's namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podway.model.dropin import (
    BridgeDevice,
    BridgePod,
    Dummy,
    HostDevice,
    InVrf,
    Ipvlan,
    Macvlan,
    Passed,
    Piece,
    Ports,
    Ptp,
    Shaped,
    SourceRouted,
    Tap,
    Tuned,
    Vlan,
    VlanGateway,
)
from podway.model.objects import Actual, AnyObject
from podway.plan.dropin import bandwidth, bridge, firewall, inner, portmap, ptp, sbr, tuning, vrf
from podway.plan.dropin.pod import Change

Builder = Callable[[Piece, Any], tuple[AnyObject, ...]]

_ON_NODE: dict[type, Builder] = {
    BridgeDevice: bridge.device,
    VlanGateway: bridge.vlan_gateway,
    BridgePod: bridge.on_node,
    Ptp: ptp.on_node,
    Ports: portmap.on_node,
    Shaped: bandwidth.on_node,
    Passed: firewall.on_node,
}
_IN_POD: dict[type, Builder] = {
    BridgePod: bridge.in_pod,
    Dummy: inner.in_pod,
    Macvlan: inner.in_pod,
    Ipvlan: inner.in_pod,
    Vlan: inner.in_pod,
    Tap: inner.in_pod,
    HostDevice: inner.moved,
    Ptp: ptp.in_pod,
    Tuned: tuning.in_pod,
    SourceRouted: sbr.in_pod,
    InVrf: vrf.in_pod,
}
_AS_FOUND: dict[type, Callable[[Piece, Any, Actual], Change]] = {
    Tuned: tuning.as_found,
    SourceRouted: sbr.as_found,
    InVrf: vrf.as_found,
}


def on_node(piece: Piece) -> tuple[AnyObject, ...]:
    """The objects of a piece in the node's own namespace."""
    build = _ON_NODE.get(type(piece.want))
    return build(piece, piece.want) if build else ()


def in_pod(piece: Piece) -> tuple[AnyObject, ...]:
    """Its objects inside the pod, in no order. Links there exist: they are changed, not made."""
    build = _IN_POD.get(type(piece.want))
    return build(piece, piece.want) if build else ()


def out_of_pod(piece: Piece) -> tuple[AnyObject, ...]:
    """What it takes away inside the pod, once the others stand."""
    return piece.want.found if isinstance(piece.want, SourceRouted) else ()


def as_found(piece: Piece, actual: Actual) -> Change:
    """What puts things inside the pod (``actual``) back as the piece found them."""
    build = _AS_FOUND.get(type(piece.want))
    return build(piece, piece.want, actual) if build else ((), ())


def puts_back(piece: Piece) -> bool:
    """Whether it changed anything inside the pod that outlives its interface's plugin."""
    return type(piece.want) in _AS_FOUND
