"""Names and numbers that are derived, never stored: stable over restarts and on every node."""

from __future__ import annotations

import hashlib

from podway.model.objects import ALIAS_PREFIX

IFNAMSIZ = 15  # linux/if.h IFNAMSIZ less the terminating zero
IFALIASZ = 255  # linux/if.h IFALIASZ less the terminating zero


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


def host_link(container: str, ifname: str) -> str:
    """The host side of a pod's veth: "pw" and 12 hex digits of (container, interface)."""
    return "pw" + _digest("veth", container, ifname).hex()[:12]


def ifb_link(container: str, ifname: str) -> str:
    """The device that shapes what the pod sends."""
    return "pi" + _digest("veth", container, ifname).hex()[:12]


def ports_chain(piece: str, hook: str) -> str:
    """The nftables chain of a drop-in piece's own published ports."""
    return f"ports-{hook}-{_digest('ports', piece).hex()[:12]}"


def vlan_port(gateway: str) -> str:
    """The port that a node's link into a VLAN of a bridge ends in."""
    return "pv" + _digest("vlan", gateway).hex()[:12]


def mac(*parts: str) -> str:
    """A locally administered unicast MAC (IEEE 802 U/L bit set, I/G clear) from ``parts``."""
    raw = bytearray(_digest("mac", *parts)[:6])
    raw[0] = (raw[0] & 0xFE) | 0x02
    return ":".join(f"{octet:02x}" for octet in raw)


def pod_mac(address: str) -> str:
    """The MAC of a pod's interface, from its first address: who reaches an address that another pod had
    before needs no other neighbour entry than the one it still has."""
    return mac("pod", address.partition("/")[0])


def host_mac(container: str, ifname: str) -> str:
    """The MAC of the host side of a pod's veth."""
    return mac("host", container, ifname)


def link_local(mac_address: str) -> str:
    """The fe80::/64 address that the kernel derives from a MAC (RFC 4291 appendix A, EUI-64)."""
    import ipaddress

    octets = bytes.fromhex(mac_address.replace(":", ""))
    eui = bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + eui))


def bridge(network: str, wanted: str = "") -> str:
    """The bridge of a network: as asked, or "pw-" and the name, shortened by a hash when too long."""
    if wanted:
        return wanted
    name = f"pw-{network}"
    return name if len(name) <= IFNAMSIZ else f"pw-{_digest('bridge', network).hex()[:12]}"


#: host side of every routed pod's veth: one MAC everywhere, as Calico has it
ROUTED_MAC = "ee:ee:ee:ee:ee:ee"
#: IP family → next hop of a routed pod: proxied by ARP, and the host side's own link-local address
ROUTED_GATEWAYS = {4: "169.254.1.1", 6: link_local(ROUTED_MAC)}


def route_metric(ifname: str) -> int:
    """What routes by a pod's interface cost more than those by its first: the number that its name ends in.

    Several networks give one pod the same route, a default one mostly; it goes by the first that is there."""
    digits = ifname[len(ifname.rstrip("0123456789")) :]
    return int(digits or "0") % 1000


def source_table(ifname: str) -> int:
    """The routing table in a pod for what comes from a further interface: above every reserved number."""
    return 1000 + int.from_bytes(_digest("table", ifname)[:3], "big")


POD_ALIAS = f"{ALIAS_PREFIX}pod:"
BRIDGE_ALIAS = f"{ALIAS_PREFIX}bridge:"


def pod_alias(container: str, ifname: str) -> str:
    """IFLA_IFALIAS of a pod's host link."""
    return f"{POD_ALIAS}{container}/{ifname}"


def bridge_alias(network: str) -> str:
    """IFLA_IFALIAS of a network's bridge."""
    return f"{BRIDGE_ALIAS}{network}"


DROPIN_ALIAS = f"{ALIAS_PREFIX}dropin:"


def dropin_alias(piece: str) -> str:
    """IFLA_IFALIAS of a link of a drop-in plugin's piece; the kernel keeps at most 255 bytes."""
    return f"{DROPIN_ALIAS}{piece}"[:IFALIASZ]


def dropin_link(container: str, ifname: str, configuration: str) -> str:
    """The host side of a drop-in plugin's veth: named as the reference plugins do, for rules on veth+."""
    return "veth" + _digest("dropin", container, ifname, configuration).hex()[:11]
