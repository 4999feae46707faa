"""What a runtime asks of the engine, and the engine as its callers see it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from podway.model.resources import Bandwidth, Endpoint, PodRoute, PortMap


class AttachRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One ADD or CHECK, decoded and validated, whatever spec version or plugin name it came by.

    ``ips``: requested addresses (bare or with a prefix length, which is ignored). ``ranges``:
    requested ranges, one tuple of (first, last) addresses per address wanted. ``namespace``:
    path as the runtime gave it. ``mac`` lower case with colons, "" = derived.
    """

    container: str
    ifname: str
    network: str
    namespace: str
    ips: tuple[str, ...] = ()
    ranges: tuple[tuple[tuple[str, str], ...], ...] = ()
    mac: str = ""
    mtu: int = 0
    ports: tuple[PortMap, ...] = ()
    bandwidth: Bandwidth = Bandwidth()
    routes: tuple[PodRoute, ...] = ()
    default_route: bool = True
    pod: str = ""
    configuration: str = ""  # the CNI configuration's name: whose GC the attachment is subject to


class Engine(Protocol):
    """Raises PodwayError (InvalidInput, Conflict, Unavailable, Exhausted) and OSError; never half-applies.

    ``namespace_fd`` is an open descriptor of the pod's namespace, owned by the caller.
    """

    def add(self, request: AttachRequest, namespace_fd: int) -> Endpoint:
        """Attach, or return the endpoint unchanged if the same request was already done.

        Raises Conflict when (container, ifname) is attached differently."""
        ...

    def delete(self, container: str, ifname: str, namespace_fd: int = -1) -> None:
        """Detach and free everything; succeeds when there is nothing. ``ifname`` is required.

        ``namespace_fd``: a descriptor of the pod's namespace, where one is at hand."""
        ...

    def check(self, request: AttachRequest, namespace_fd: int, addresses: tuple[str, ...]) -> None:
        """Raise Conflict (Lost on the node) naming the first thing that is missing; routes may be more."""
        ...

    def gc(self, network: str, configuration: str, valid: frozenset[tuple[str, str]]) -> None:
        """Detach what came by ``configuration`` and isn't in ``valid`` {(container, ifname)}."""
        ...

    def status(self, network: str) -> None:
        """Raise Unavailable, with why, when an ADD could not be served now."""
        ...
