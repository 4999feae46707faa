"""What Flannel keeps in etcd, as Flannel 0.26 writes it: its configuration and its leases. Pure.

Keys under the prefix: ``config``, one JSON document; ``subnets/10.244.5.0-24`` or, dual stack,
``subnets/10.244.5.0-24&fd00:10:244:5::-64``, one lease each, whose value says how to reach its node.
Go reads JSON keys in any case, so does this.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import msgspec

from podway.model.errors import InvalidInput
from podway.model.objects import family_of
from podway.model.problems import Problem
from podway.model.resources import BLOCK_SIZES, Network

DEFAULT_PORT = 8472  # what Linux takes when Flannel names none
LEASE_SECONDS = 24 * 3600  # Flannel's subnetTTL
_KEY = re.compile(r"(\d+\.\d+\.\d+\.\d+)-(\d+)(?:&([a-f\d:]+)-(\d+))?")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


class Range(msgspec.Struct, frozen=True):
    """Of one family: the whole prefix, the length of a lease's, and the first and last that may be leased."""

    network: str
    size: int
    first: int
    last: int

    def holds(self, subnet: str) -> bool:
        """Whether Flannel could lease ``subnet``."""
        parsed = ipaddress.ip_network(subnet)
        return parsed.prefixlen == self.size and self.first <= int(parsed.network_address) <= self.last


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Flannel's configuration with its defaults filled in. ``ranges`` by IP family."""

    ranges: dict[int, Range]
    transport: str
    vni: int = 1
    port: int = DEFAULT_PORT


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One node's subnets and, by family, the address and the VTEP's MAC to reach them by."""

    subnets: dict[int, str]
    addresses: dict[int, str]
    macs: dict[int, str] = {}
    transport: str = "vxlan"
    vni: int = 1

    @property
    def key(self) -> str:
        """Its name under ``subnets/``."""
        return lease_key(self.subnets)


def lease_key(subnets: dict[int, str]) -> str:
    """ "10.244.5.0-24", with "&fd00:10:244:5::-64" when there is IPv6."""
    return "&".join(subnets[family].replace("/", "-") for family in (4, 6) if family in subnets)


def parse_key(key: str) -> dict[int, str]:
    """The subnets that a key names. Raises InvalidInput."""
    found = _KEY.fullmatch(key)
    try:
        if found is None:
            raise ValueError("it is no ADDRESS-LENGTH")
        subnets = {4: str(ipaddress.IPv4Network(f"{found[1]}/{found[2]}"))}
        if found[3]:
            subnets[6] = str(ipaddress.IPv6Network(f"{found[3]}/{found[4]}"))
    except ValueError as error:
        raise InvalidInput(f"Flannel's lease {key} names no subnet: {error}") from error
    return subnets


def _lowered(value: Any) -> dict[str, Any]:
    return {str(key).lower(): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def _json(text: bytes, what: str) -> dict[str, Any]:
    try:
        return _lowered(msgspec.json.decode(text))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} is no JSON: {error}", fix="etcdctl get it, and mend it") from error


def decode_lease(key: str, text: bytes) -> Lease:
    """The lease of a key and its value. Raises InvalidInput."""
    what = f"Flannel's lease {key}"
    raw = _json(text, what)
    subnets = parse_key(key)
    addresses: dict[int, str] = {}
    macs: dict[int, str] = {}
    vni = 0
    for family, address, data in ((4, "publicip", "backenddata"), (6, "publicipv6", "backendv6data")):
        if family not in subnets or not raw.get(address):
            continue
        addresses[family] = _address(str(raw[address]), family, what)
        backend = _lowered(raw.get(data))
        mac = str(backend.get("vtepmac") or "").lower()
        if mac:
            macs[family] = _mac(mac, what)
            vni = int(backend.get("vni") or 0)
    kind = str(raw.get("backendtype") or "")
    return Lease(subnets=subnets, addresses=addresses, macs=macs, transport=kind, vni=vni)


def _address(text: str, family: int, what: str) -> str:
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidInput(f"{what}: {error}") from error
    if parsed.version != family or parsed.is_unspecified or parsed.is_loopback or parsed.is_multicast:
        raise InvalidInput(f"{what}: {text} is no IPv{family} address of a node")
    return str(parsed)


def _mac(text: str, what: str) -> str:
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise InvalidInput(f"{what}: {text!r} is no MAC of a VTEP")
    return text


def encode_lease(lease: Lease) -> bytes:
    """The value that Flannel's nodes read. Flannel always wants a PublicIP; IPv6 may be null."""
    value: dict[str, Any] = {
        "PublicIP": lease.addresses.get(4, "0.0.0.0"),
        "PublicIPv6": lease.addresses.get(6),
        "BackendType": lease.transport,
    }
    for family, name in ((4, "BackendData"), (6, "BackendV6Data")):
        if family in lease.macs:
            value[name] = {"VNI": lease.vni, "VtepMAC": lease.macs[family]}
    return msgspec.json.encode(value)


def decode_config(text: bytes) -> Config:
    """Flannel's configuration, its defaults filled in as Flannel does. Raises InvalidInput."""
    raw = _json(text, "Flannel's config")
    backend = _lowered(raw.get("backend"))
    ranges = {}
    try:
        if raw.get("enableipv4", True):
            ranges[4] = _range(raw, "network", "subnetlen", "subnetmin", "subnetmax", 24)
        if raw.get("enableipv6", False):
            ranges[6] = _range(raw, "ipv6network", "ipv6subnetlen", "ipv6subnetmin", "ipv6subnetmax", 64)
        vni, port = int(backend.get("vni", 1)), int(backend.get("port") or DEFAULT_PORT)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"Flannel's config: {error}", fix="etcdctl get PREFIX/config, and mend it"
        ) from error
    return Config(ranges=ranges, transport=str(backend.get("type") or "udp"), vni=vni, port=port)


def _range(raw: dict[str, Any], name: str, length: str, low: str, high: str, usual: int) -> Range:
    network = ipaddress.ip_network(str(raw.get(name, "")))
    # Flannel's own arithmetic: at least four leases, and the first prefix is never leased unless asked for.
    size = int(raw.get(length) or 0) or (usual if network.prefixlen <= usual - 2 else network.prefixlen + 2)
    step = 1 << (network.max_prefixlen - size)
    first = ipaddress.ip_address(raw[low]) if raw.get(low) else network.network_address + step
    last = ipaddress.ip_address(raw[high]) if raw.get(high) else network.broadcast_address - (step - 1)
    return Range(str(network), size, int(first), int(last))


def disagreements(network: Network, config: Config) -> list[Problem]:
    """Where a Network and Flannel's configuration differ: nothing is leased before they agree."""
    spec = network.spec
    fix = "change it here or in Flannel's config, so that both say the same"
    found = []
    if spec.transport != config.transport:
        what = f"{spec.transport}, but Flannel's backend is {config.transport}"
        found.append(Problem("spec.transport", what, fix))
    elif spec.transport == "vxlan":
        for path, ours, theirs in (
            ("vni", spec.vxlan.vni, config.vni),
            ("port", spec.vxlan.port, config.port),
        ):
            if ours != theirs:
                found.append(Problem(f"spec.vxlan.{path}", f"{ours}, but Flannel's is {theirs}", fix))
        if spec.vxlan.underlay != "ipv4":
            found.append(Problem("spec.vxlan.underlay", "Flannel carries IPv4 pods over IPv4", "remove it"))
    pools = {family_of(pool.cidr): pool for pool in spec.pools}
    for family in sorted(pools.keys() | config.ranges.keys()):
        pool, theirs4 = pools.get(family), config.ranges.get(family)
        if pool is None or theirs4 is None:
            has, ours4 = ("no", "one") if theirs4 is None else ("an", "none")
            what = f"Flannel's config has {has} IPv{family} network, this has {ours4}"
            found.append(Problem("spec.pools", what, fix))
            continue
        if pool.cidr != theirs4.network:
            found.append(Problem("spec.pools", f"{pool.cidr}, but Flannel's is {theirs4.network}", fix))
        size = pool.block_size or BLOCK_SIZES[spec.attach][0 if family == 4 else 1]
        if size != theirs4.size:
            found.append(Problem("spec.pools.blockSize", f"/{size}, but Flannel leases /{theirs4.size}", fix))
    return found
