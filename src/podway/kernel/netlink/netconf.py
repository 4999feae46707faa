"""Settings of a link that the kernel tells about when they change. Numbers from linux/netconf.h.

The others (accept_ra, send_redirects, route_localnet, …) change without a word.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from podway.kernel.netlink import wire
from podway.model.objects import Sysctl

NEWNETCONF = 80
NETCONF = struct.Struct("=Bxxx")  # struct netconfmsg: family
IFINDEX, FORWARDING, RP_FILTER = 1, 2, 3
ALL, DEFAULT = -1, -2  # NETCONFA_IFINDEX_*
FAMILIES = {2: "ipv4", 10: "ipv6"}
SETTINGS = {FORWARDING: "forwarding", RP_FILTER: "rp_filter"}


def decode(payload: bytes, name_of: Mapping[int, str]) -> list[Sysctl]:
    """What an RTM_NEWNETCONF message says, as sysctls; nothing for links and families not known."""
    family = FAMILIES.get(payload[0])
    found = wire.attributes(payload, NETCONF.size)
    if family is None or IFINDEX not in found:
        return []
    index = wire.I32.unpack(found[IFINDEX])[0]
    link = {ALL: "all", DEFAULT: "default"}.get(index) or name_of.get(index)
    if link is None:
        return []
    values = {
        f"net/{family}/conf/{link}/{name}": str(wire.I32.unpack(found[kind])[0])
        for kind, name in SETTINGS.items()
        if kind in found
    }
    if (forwarding := values.get("net/ipv4/conf/all/forwarding")) is not None:
        values["net/ipv4/ip_forward"] = forwarding  # another name of the same
    return [Sysctl(path=path, value=value) for path, value in values.items()]
