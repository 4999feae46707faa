"""``bridge``: a veth into a bridge, which may be the pods' gateway."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin import options
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Made, Maker
from podway.cni.dropin.paths import DEFAULTS, paths
from podway.cni.errors import CONFIGURATION, CniError, wrong
from podway.cni.protocol import Interface, Result, Route
from podway.cni.reader import Section
from podway.model import names
from podway.model.dropin import BridgeDevice, BridgePod, Piece, VlanGateway
from podway.model.objects import Address as Addressed
from podway.model.objects import Link, PortVlan, family_of

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

_DEFAULT = "cni0"
_LAST_VLAN = 4094


def want(ask: Ask, given: Result) -> Made:
    """Raises CniError 7, naming the key."""
    section = ask.section
    hairpin, promisc = section.flag("hairpinMode", False), section.flag("promiscMode", False)
    if hairpin and promisc:
        raise wrong("promiscMode", "and hairpinMode exclude each other", "set one of them to false")
    up = not section.flag("disableContainerInterface", False)
    if not up and section.section("ipam").text("type"):
        raise wrong("disableContainerInterface", "an interface that stays down has no addresses", "drop ipam")
    default = section.flag("isDefaultGateway", False)
    gateway = default or section.flag("isGateway", False)
    given = with_gateways(given, gateway, default)
    first = given.ips[0].address if given.ips else f"{ask.me.container}/{ask.me.ifname}"
    value = BridgePod(
        bridge=bridge_name(section),
        link=names.dropin_link(ask.me.container, ask.me.ifname, ask.conf.name),
        mac=options.asked_mac(ask) or names.pod_mac(first),
        mtu=config.mtu(section),
        routes=paths(given, ask.me.ifname),
        gateways=_gateways(given) if gateway else (),
        hairpin=hairpin,
        isolated=section.flag("portIsolation", False),
        masquerade=options.masquerade(section),
        mac_guard=section.flag("macspoofchk", False),
        dad=section.flag("enabledad", False),
        up=up,
        vlans=port_vlans(section),
    )
    return Made(value, given)


def port_vlans(section: Section) -> tuple[PortVlan, ...]:
    """Of the pod's port, () where VLANs are of no concern. Raises CniError 7.

    In the reference's order, of which the last holds: the native one, those of the trunk, and 1 as the native
    one of a trunk without."""
    native, trunk = section.number("vlan", highest=_LAST_VLAN), _trunk(section)
    if not native and not trunk:
        return ()
    found = {1: PortVlan(1, True, True)} if section.flag("preserveDefaultVlan", False) else {}
    for one in (
        *([PortVlan(native, True, True)] if native else ()),
        *map(PortVlan, sorted(trunk)),
        *([] if native else [PortVlan(1, True, True)]),
    ):
        if one.pvid:  # there is but one
            found = {vid: PortVlan(vid, False, other.untagged) for vid, other in found.items()}
        found[one.vid] = one
    return tuple(found[vid] for vid in sorted(found))


def _trunk(section: Section) -> set[int]:
    found: set[int] = set()
    for one in section.sections("vlanTrunk"):
        low, high, single = (one.maybe_number(key, highest=_LAST_VLAN) for key in ("minID", "maxID", "id"))
        if 0 in (low, high, single):
            raise wrong(one.path, "0 is no VLAN")
        if (low is None) != (high is None):
            raise wrong(one.path, "minID and maxID go together")
        if low is not None and high is not None:
            if high < low:
                raise wrong(one.at("maxID"), f"{high} is less than minID")
            found |= set(range(low, high + 1))
        found |= {single} if single is not None else set()
    return found


def bridge_name(section: Section) -> str:
    """``bridge``. Raises CniError 7 for what can be no link's name."""
    name = section.text("bridge") or _DEFAULT
    if problem := config.ifname_problem(name):
        raise wrong("bridge", f"{name!r} {problem}")
    return name


def with_gateways(given: Result, gateway: bool, default: bool) -> Result:
    """With the gateways that the bridge has, and default routes by them, where the reference adds them."""
    ips, routes = [], list(given.routes)
    found: set[int] = set()
    for one in given.ips:
        family, hop = family_of(one.address), one.gateway
        if not hop and gateway:
            hop = str(ipaddress.ip_interface(one.address).network.network_address + 1)
        if default and family not in found:
            if not any(route.dst == DEFAULTS[family] for route in routes):
                routes.append(Route(dst=DEFAULTS[family], gw=hop))
            found.add(family)
        ips.append(msgspec.structs.replace(one, gateway=hop, interface=2))
    return msgspec.structs.replace(given, ips=tuple(ips), routes=tuple(routes))


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """See to it that the bridge stands, with the gateways of this network."""
    assert isinstance(piece.want, BridgePod)
    name, rtnetlink = piece.want.bridge, engine.kernel.rtnetlink
    known = engine.pieces.known.get(f"/{name}//bridge-device")
    before = known.want if known is not None and isinstance(known.want, BridgeDevice) else None
    stands = before is not None and not piece.want.vlans and rtnetlink.is_still(name)
    found = None if stands else rtnetlink.get_link(name)
    stands = stands or found is not None
    if found is not None and found.kind != "bridge":
        raise wrong("bridge", f"{name} is a {found.kind or 'hardware'} link, not a bridge")
    native = ask.section.number("vlan", highest=_LAST_VLAN)
    wanted = _device(engine, ask, piece.want, found, before, () if native else piece.want.gateways)
    if before != wanted or not stands:
        device = Piece(container="", ifname=name, configuration="", want=wanted)
        engine.devices.keep(device)
    if native and piece.want.gateways:
        _prepare_vlan(engine, ask, piece.want, native, wanted.mtu)
    return piece


def _prepare_vlan(engine: NodeEngine, ask: Ask, want: BridgePod, native: int, mtu: int) -> None:
    """See to it that the node's own link into the VLAN stands, with the gateways of this network."""
    name = f"{want.bridge}.{native}"
    if problem := config.ifname_problem(name):
        raise wrong("bridge", f"{name!r}, the gateway's link, {problem}")
    found = engine.kernel.rtnetlink.get_link(name)
    known = engine.pieces.known.get(f"/{name}//bridge-vlan")
    before = known.want if known is not None and isinstance(known.want, VlanGateway) else None
    if found is not None and before is None:
        raise wrong("vlan", f"{name}, the gateway's link, is there already, and isn't Podway's")
    there = before or VlanGateway(
        name=name,
        bridge=want.bridge,
        port=names.vlan_port(name),
        mac=names.mac("bridge-vlan", engine.node, name),
        mtu=mtu,
    )
    addresses = _with(engine, ask, name, there.addresses, want.gateways)
    vlans = tuple(one for one in want.vlans if one.untagged)
    wanted = msgspec.structs.replace(there, addresses=addresses, vlans=vlans)
    if before != wanted or found is None:
        engine.devices.keep(Piece(container="", ifname=name, configuration="", want=wanted))


def _with(
    engine: NodeEngine, ask: Ask, name: str, there: tuple[str, ...], wanted: tuple[str, ...]
) -> tuple[str, ...]:
    """The addresses of link ``name`` with those that are wanted."""
    addresses = list(there)
    for one in wanted:
        if one not in addresses:
            addresses = [*_room_for(engine, ask, name, one, addresses), one]
    return tuple(addresses)


def _device(
    engine: NodeEngine,
    ask: Ask,
    want: BridgePod,
    found: Link | None,
    before: BridgeDevice | None,
    gateways: tuple[str, ...],
) -> BridgeDevice:
    promisc, name = ask.section.flag("promiscMode", False), want.bridge
    if before is None:
        foreign = found is not None and not (found.alias or "").startswith(names.DROPIN_ALIAS)
        before = BridgeDevice(
            name=name,
            mac=(found.mac if found is not None and found.mac else names.mac("bridge", engine.node, name)),
            mtu=config.mtu(ask.section),
            adopted=foreign,
        )
    addresses = _with(engine, ask, name, before.addresses, gateways)
    if want.vlans and before.adopted and not (found and found.bridge and found.bridge.vlan_filtering):
        fix = f"ip link set {name} type bridge vlan_filtering 1"
        raise wrong("bridge", f"{name} filters no VLANs, and isn't Podway's to change", fix)
    return msgspec.structs.replace(
        before,
        addresses=addresses,
        promisc=promisc or before.promisc,
        vlan_filtering=before.vlan_filtering or (bool(want.vlans) and not before.adopted),
    )


def _gateways(given: Result) -> tuple[str, ...]:
    """The addresses that the bridge is to have for a pod."""
    return tuple(f"{one.gateway}/{one.address.rpartition('/')[2]}" for one in given.ips)


def _room_for(engine: NodeEngine, ask: Ask, name: str, wanted: str, addresses: list[str]) -> list[str]:
    """``addresses`` without those in the way. Raises CniError 7 unless forceAddress allows that."""
    new = ipaddress.ip_interface(wanted)
    dumped = engine.kernel.rtnetlink.dump("address").values()
    there = [*addresses, *(one.address for one in dumped if isinstance(one, Addressed) and one.link == name)]
    for old in dict.fromkeys(there):
        one = ipaddress.ip_interface(old)
        if old == wanted or one.version != new.version or (one.version == 6 and not _overlap(one, new)):
            continue
        if not ask.section.flag("forceAddress", False):
            what = f"{name} has the address {old}, not {wanted}"
            raise CniError(CONFIGURATION, what, fix="set forceAddress, or name another bridge")
        addresses = [kept for kept in addresses if kept != old]
        engine.devices.displace(name, old)
    return addresses


def _overlap(one: ipaddress.IPv4Interface | ipaddress.IPv6Interface, other: object) -> bool:
    assert isinstance(other, ipaddress.IPv4Interface | ipaddress.IPv6Interface)
    return one.network.overlaps(other.network)


def result(ask: Ask, piece: Piece, given: Result, engine: NodeEngine) -> Result:
    """Bridge, host's side, pod's side; its addresses and routes."""
    assert isinstance(piece.want, BridgePod)
    device = engine.pieces.known[f"/{piece.want.bridge}//bridge-device"].want
    assert isinstance(device, BridgeDevice)
    # an adopted bridge may have taken the MAC of this very port
    found = engine.kernel.rtnetlink.get_link(device.name) if device.adopted else None
    interfaces: tuple[Interface, ...] = (
        Interface(name=device.name, mac=found.mac if found and found.mac else device.mac),
        Interface(name=piece.want.link, mac=names.host_mac(piece.container, piece.ifname)),
        Interface(name=piece.ifname, mac=piece.want.mac, sandbox=ask.me.namespace),
    )
    gateway = engine.pieces.known.get(f"/{device.name}.{ask.section.number('vlan')}//bridge-vlan")
    if piece.want.gateways and gateway is not None and isinstance(gateway.want, VlanGateway):
        interfaces += (Interface(name=gateway.want.name, mac=gateway.want.mac),)
    return options.answer(ask, interfaces, given)


def settled(piece: Piece) -> bool:
    """Whether ADD waits until no duplicate of the pod's addresses was found."""
    return isinstance(piece.want, BridgePod) and piece.want.dad


PLUGIN = Maker("bridge", want, result, prepare, settles=settled)
