"""Addresses that the reference plugin ``firewall`` has bound to a zone of firewalld's, by its D-Bus.

It binds them at run time alone, as ADDRESS/32 or /128 (plugins/meta/firewall/firewalld.go). firewalld forgets
them when it is reloaded or started anew. Its permanent configuration is never changed here, and what stands
in it is an administrator's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from podway.kernel.system_bus import Bus

PATIENCE = 5.0  # seconds for all questions together
_NAME, _PATH = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
_ABSENT = ("org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")
_UNKNOWN = "UNKNOWN_SOURCE"  # firewalld's word: it is gone already


class Source(msgspec.Struct, frozen=True):
    """An address (bare) that a zone has at run time; ``bound`` is how the zone has it."""

    zone: str
    address: str
    bound: str


def sources(addresses: Iterable[str]) -> tuple[Source, ...]:
    """Those of the addresses (bare) that a zone has; none where no firewalld runs.

    Raises OSError where firewalld refuses or doesn't answer."""
    from podway.kernel.system_bus import Refused, system_bus  # of use to few nodes, and slow to import

    try:
        with system_bus(PATIENCE) as bus:
            found = [_source(bus, address) for address in addresses]
    except (FileNotFoundError, ConnectionRefusedError):
        return ()  # there is no bus
    except Refused as error:
        if error.name in _ABSENT:
            return ()
        raise
    return tuple(one for one in found if one is not None)


def _source(bus: Bus, address: str) -> Source | None:
    try:
        bound = str(ipaddress.ip_network(address))
    except ValueError:  # no address that anybody could have bound
        return None
    zone = bus.ask(_NAME, _PATH, f"{_NAME}.zone.getZoneOfSource", bound)
    if not zone or bus.ask(_NAME, f"{_PATH}/config", f"{_NAME}.config.getZoneOfSource", bound):
        return None
    return Source(zone, address, bound)


def unbind(found: Iterable[Source]) -> None:
    """Take them out of their zones, at run time. Raises OSError."""
    from podway.kernel.system_bus import Refused, system_bus

    with system_bus(PATIENCE) as bus:
        for one in found:
            try:
                bus.ask(_NAME, _PATH, f"{_NAME}.zone.removeSource", one.zone, one.bound)
            except Refused as error:
                if error.name not in _ABSENT and _UNKNOWN not in str(error):
                    raise
