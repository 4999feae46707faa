"""attach: routed. No bridge: the node is the next hop of every pod, and has one host route per pod.

A pod has its address with a full prefix length and a default route via 169.254.1.1, which the host's
side of its veth answers for by proxy ARP; over IPv6 the next hop is that side's link-local address. All
host sides share one MAC, so that a pod's neighbour entry is right wherever it runs (Calico's choice too).
"""

from __future__ import annotations

import ipaddress

from podway.model import names
from podway.model.objects import Address, AnyObject, Link, Peer, Route, Sysctl, family_of
from podway.model.resources import Block, Endpoint, Network
from podway.plan import bandwidth, nat, ports, spoofing
from podway.plan.attach.pod import IPV6_METRIC

BORROWED_METRIC = 4096  # of a borrowed address that no pod has yet or any more: after the route to its pod


def network() -> tuple[AnyObject, ...]:
    """What makes the pods' next hop known."""
    # Proxy ARP answers for what the node has a route to; a node may be without a default route.
    return (Route(dst=f"{names.ROUTED_GATEWAYS[4]}/32", dev="lo", scope="link"),)


def own_block(block: Block) -> tuple[AnyObject, ...]:
    """Addresses of the block that no pod has lead nowhere, instead of back to where they came from."""
    metric = IPV6_METRIC if family_of(block.cidr) == 6 else 0
    if block.borrowed:
        metric = BORROWED_METRIC
    return (Route(dst=block.cidr, type="blackhole", metric=metric),)


def _sysctls(link: str, dual: bool) -> list[Sysctl]:
    found = [
        Sysctl(path=f"net/ipv4/conf/{link}/proxy_arp", value="1"),
        # Answers to broadcast requests are put off by up to this, and a pod's first packet with them.
        Sysctl(path=f"net/ipv4/neigh/{link}/proxy_delay", value="0"),
        Sysctl(path=f"net/ipv4/conf/{link}/send_redirects", value="0"),
        *ports.sysctls(link),
    ]
    if dual:
        # A pod must not be able to give the node a default route by a router advertisement.
        found.append(Sysctl(path=f"net/ipv6/conf/{link}/accept_ra", value="0"))
    return found


def host_route(address: str, link: str) -> Route:
    """The route to one pod's address."""
    parsed = ipaddress.ip_interface(address).ip
    six = parsed.version == 6
    return Route(
        dst=f"{parsed}/{parsed.max_prefixlen}",
        dev=link,
        scope="global" if six else "link",
        metric=IPV6_METRIC if six else 0,
    )


def endpoint(endpoint: Endpoint, network: Network) -> tuple[AnyObject, ...]:
    """The host's side of one pod interface."""
    spec, link = network.spec, endpoint.host_link
    dual = any(family_of(address) == 6 for address in endpoint.addresses)
    objects: list[AnyObject] = [
        Link(
            name=link,
            kind="veth",
            alias=names.pod_alias(endpoint.container, endpoint.ifname),
            mac=names.ROUTED_MAC,
            mtu=endpoint.mtu,
            master="",
            # The kernel's own link-local address would be tentative for a second: the pod's next hop is ours.
            link_local=False if dual else None,
            peer=Peer(name=endpoint.ifname, mac=endpoint.mac, mtu=endpoint.mtu, namespace=endpoint.id),
        ),
        *_sysctls(link, dual),
        *(host_route(address, link) for address in endpoint.addresses),
    ]
    if dual:
        objects.append(Address(link=link, address=f"{names.ROUTED_GATEWAYS[6]}/64", nodad=True))
    if spec.spoof_protection:
        objects += spoofing.routed_endpoint(link, endpoint.mac, endpoint.addresses)
    if spec.masquerade:
        objects += nat.endpoint(endpoint.addresses)
    # its "neighbour" on this link is itself, by a port that it published
    objects += nat.neighbour(link, endpoint.addresses)
    objects += ports.endpoint(endpoint.ports, endpoint.addresses)
    objects += bandwidth.of_endpoint(endpoint)
    return tuple(objects)
