"""Whether the ports that a pod asks to have published can be: who has them, and which never can."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from podway.kernel import listeners
from podway.model.errors import Conflict, InvalidInput
from podway.model.objects import family_of
from podway.model.resources import Endpoint, Network, PortMap
from podway.node.requests import AttachRequest

Taken = dict[tuple[str, int], list[tuple[PortMap, Endpoint]]]  # (protocol, host port) → who has it


def check(request: AttachRequest, network: Network, endpoints: Collection[Endpoint]) -> None:
    """Raises InvalidInput for an address that no port of this pod can have, Conflict naming a holder.

    Another interface of the same pod is none: runtimes publish a port by each network of a container."""
    families = {family_of(pool.cidr) for pool in network.spec.pools}
    subject = f"container {request.container}"
    taken: Taken = {}
    others = [one for one in endpoints if one.container != request.container] if request.ports else []
    for other in others:
        for port in other.ports:
            taken.setdefault((port.protocol, port.host_port), []).append((port, other))
    for port in request.ports:
        _check_address(port, families, subject)
        _check_free(port, taken, request.container)


def _check_address(port: PortMap, families: Collection[int], subject: str) -> None:
    if not port.host_ip:
        return
    what = f"host port {port.host_port}/{port.protocol} on {port.host_ip}"
    if port.host_ip == str(ipaddress.IPv6Address(1)):
        # no route_localnet for IPv6: what comes from ::1 never leaves the loopback link
        fix = "publish it on 127.0.0.1, on an address of the node or on all"
        raise InvalidInput(f"{what}: the kernel forwards nothing from ::1", subject, fix)
    if family_of(port.host_ip) not in families:
        family = family_of(port.host_ip)
        fix = "give the network a pool of that family, or publish on another address"
        raise InvalidInput(f"{what}: the pod has no IPv{family} address", subject, fix)


def _check_free(port: PortMap, taken: Taken, container: str) -> None:
    what, subject = f"host port {port.host_port}/{port.protocol}", f"container {container}"
    for theirs, other in taken.get((port.protocol, port.host_port), ()):
        if port.meets(theirs):
            who = other.pod or other.container
            fix = "publish another port, or remove that pod"
            raise Conflict(f"{what} is taken by pod {who}", subject, fix)
    found = listeners.find(port.protocol, port.host_ip, port.host_port, container)
    if found is not None:
        raise Conflict(f"{what} is in use: {found}", subject, "publish another port, or stop that process")
