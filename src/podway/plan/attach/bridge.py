"""attach: bridge. A veth per pod into one bridge per network; the bridge is the pods' gateway."""

from __future__ import annotations

import ipaddress

from podway.model import names
from podway.model.objects import Address, AnyObject, BridgeOptions, BridgePort, Link, Peer, Sysctl, family_of
from podway.model.resources import Block, Endpoint, Network, NodeFacts
from podway.plan import bandwidth, nat, ports, spoofing
from podway.plan.notes import Note


def bridge_name(network: Network) -> str:
    """The bridge that holds this network's pods on every node."""
    return names.bridge(network.name, network.spec.bridge.name)


def network(network: Network, facts: NodeFacts, mtu: int) -> tuple[AnyObject, ...]:
    """The bridge itself, without addresses."""
    name = bridge_name(network)
    adopted = network.spec.bridge.adopt
    mac = names.mac("bridge", facts.name, network.name)
    dual = not adopted and any(family_of(pool.cidr) == 6 for pool in network.spec.pools)
    return (
        Link(
            name=name,
            kind="bridge",
            alias=None if adopted else names.bridge_alias(network.name),
            # Pinned: otherwise the bridge takes the lowest MAC of its ports and changes it with every pod.
            mac=None if adopted else mac,
            mtu=None if adopted else mtu,
            promisc=network.spec.bridge.promisc or (None if adopted else False),
            # The kernel's own fe80:: address would be tentative for a second, and without one the node can't
            # ask for its pods' neighbours on behalf of forwarded packets.
            link_local=False if dual else None,
            bridge=None if adopted else BridgeOptions(stp=False, mcast_snooping=False),
            adopted=adopted,
        ),
        *([Address(link=name, address=f"{names.link_local(mac)}/64", nodad=True)] if dual else []),
        Sysctl(path=f"net/ipv4/conf/{name}/send_redirects", value="0"),
        # A pod must not be able to give the node a default route by a router advertisement.
        Sysctl(path=f"net/ipv6/conf/{name}/accept_ra", value="0"),
        *ports.sysctls(name),
    )


def refusal(network: Network, facts: NodeFacts) -> Note | None:
    """Why an adopted bridge can't serve: an address that no pool of the network holds is somebody else's."""
    if network.spec.attach != "bridge" or not network.spec.bridge.adopt:
        return None
    name = bridge_name(network)
    pools = [ipaddress.ip_network(pool.cidr) for pool in network.spec.pools]
    for address in facts.adopted.get(name, ()):
        if not any(ipaddress.ip_interface(address).ip in pool for pool in pools):
            fix = f"ip address del {address} dev {name}, or name another bridge"
            return Note(f"network {network.name}", f"bridge {name} has a foreign address, {address}", fix)
    return None


def gateway(cidr: str) -> str:
    """The address that the bridge holds in a block, with the block's prefix length."""
    block = ipaddress.ip_network(cidr)
    return f"{block.network_address + 1}/{block.prefixlen}"


def own_block(block: Block, network: Network) -> tuple[AnyObject, ...]:
    """The gateway of one of this node's blocks."""
    # Duplicate address detection would leave the gateway unusable for a second.
    return (Address(link=bridge_name(network), address=gateway(block.cidr), nodad=True),)


def endpoint(endpoint: Endpoint, network: Network) -> tuple[AnyObject, ...]:
    """The host's side of one pod interface."""
    spec = network.spec
    link = Link(
        name=endpoint.host_link,
        kind="veth",
        alias=names.pod_alias(endpoint.container, endpoint.ifname),
        mac=names.host_mac(endpoint.container, endpoint.ifname),
        mtu=endpoint.mtu,
        # a bridge's port needs no address; detecting its duplicates only costs every pod's start
        link_local=False if any(family_of(address) == 6 for address in endpoint.addresses) else None,
        master=bridge_name(network),
        port=BridgePort(hairpin=spec.bridge.hairpin, isolated=spec.bridge.isolated),
        peer=Peer(name=endpoint.ifname, mac=endpoint.mac, mtu=endpoint.mtu, namespace=endpoint.id),
    )
    objects: list[AnyObject] = [link]
    if spec.spoof_protection:
        objects += spoofing.endpoint(endpoint.host_link, endpoint.mac, endpoint.addresses)
    if spec.masquerade:
        objects += nat.endpoint(endpoint.addresses)
    objects += nat.neighbour(bridge_name(network), endpoint.addresses)
    objects += ports.endpoint(endpoint.ports, endpoint.addresses)
    objects += bandwidth.of_endpoint(endpoint)
    return tuple(objects)
