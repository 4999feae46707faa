"""``ptp``: a veth per pod and no bridge; the gateway is the host's side of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin import options
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Made, Maker
from podway.cni.dropin.paths import paths
from podway.cni.errors import wrong
from podway.cni.protocol import Interface, Result
from podway.model import names
from podway.model.dropin import Piece, Ptp

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


def want(ask: Ask, given: Result) -> Made:
    """Raises CniError 7, naming the key."""
    for one in given.ips:
        if not one.gateway:
            raise wrong("ipam", f"{one.address} came without a gateway, which is the pod's only next hop")
    if not given.ips:
        raise wrong("prevResult", "has no address, which the plugin needs")
    ips = tuple(msgspec.structs.replace(one, interface=1) for one in given.ips)
    value = Ptp(
        link=names.dropin_link(ask.me.container, ask.me.ifname, ask.conf.name),
        mac=names.pod_mac(ips[0].address),
        gateways=tuple(one.gateway for one in ips),
        mtu=config.mtu(ask.section),
        routes=paths(given, ask.me.ifname),
        masquerade=options.masquerade(ask.section),
    )
    return Made(value, msgspec.structs.replace(given, ips=ips))


def result(ask: Ask, piece: Piece, given: Result, engine: NodeEngine) -> Result:
    """Host's side, pod's side; its addresses and routes."""
    assert isinstance(piece.want, Ptp)
    interfaces = (
        Interface(name=piece.want.link, mac=names.host_mac(piece.container, piece.ifname)),
        Interface(name=piece.ifname, mac=piece.want.mac, sandbox=ask.me.namespace),
    )
    return options.answer(ask, interfaces, given)


PLUGIN = Maker("ptp", want, result, needs_ipam=True, segment=False)
