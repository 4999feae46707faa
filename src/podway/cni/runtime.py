"""What a runtime adds to a configuration: runtimeConfig (the capabilities), args.cni and CNI_ARGS.

Each function reads one convention and raises CniError 7 naming the key (4 for CNI_ARGS).
"""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Literal

import msgspec

from podway.cni.errors import ENVIRONMENT, CniError, wrong
from podway.cni.reader import Section, as_text
from podway.model.resources import Bandwidth, PortMap

DEFAULT_BURST = 4294967295  # bits: what runtimes send for "no limit on the burst"

_OCTETS, _OCTET = (6, 8, 20), re.compile("[0-9a-f]{2}")
_MAC = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_PROTOCOLS: dict[str, Literal["tcp", "udp", "sctp"]] = {
    "": "tcp",
    "tcp": "tcp",
    "udp": "udp",
    "sctp": "sctp",
}
_K8S_NAMESPACE, _K8S_NAME = "K8S_POD_NAMESPACE", "K8S_POD_NAME"
_KNOWN = {"IgnoreUnknown", "IP", "GATEWAY", "MAC", _K8S_NAMESPACE, _K8S_NAME}
_KNOWN |= {"K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"}


class PodArguments(msgspec.Struct, frozen=True, kw_only=True):
    """CNI_ARGS, decoded. ``pod`` is NAMESPACE/NAME, "" when not told."""

    ips: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()  # the same as they were given, perhaps with prefix lengths
    gateways: tuple[str, ...] = ()
    mac: str = ""
    pod: str = ""


@functools.lru_cache(4096)
def interface(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """An address with its prefix length, as results have it. Raises ValueError."""
    return ipaddress.ip_interface(text)


@functools.lru_cache(1024)
def prefix(text: str) -> str:
    """The canonical form of one, without what of its host part there is. Raises ValueError."""
    return str(ipaddress.ip_network(text, strict=False))


def address(key: str, value: str) -> str:
    """The canonical bare address of "10.0.0.1" or "10.0.0.1/24"."""
    try:
        if "%" in value:
            raise ValueError
        return str(ipaddress.ip_interface(value).ip)
    except ValueError:
        raise wrong(key, f"{value!r} is not an IP address") from None


def ips(section: Section) -> tuple[str, ...]:
    """Key ``ips``: bare addresses."""
    return tuple(address(path, as_text(path, item)) for path, item in section.items("ips"))


def mac(section: Section) -> str:
    """Key ``mac``: lower case with colons, "" when absent."""
    return _valid_mac(section.at("mac"), section.text("mac"))


def hardware_address(section: Section) -> str:
    """Key ``hwaddr`` of a link that is there, in the same form: an EUI-64's or InfiniBand's, too."""
    value = section.text("hwaddr")
    found = _with_colons(value)
    octets = found.split(":")
    if value and (len(octets) not in _OCTETS or not all(map(_OCTET.fullmatch, octets))):
        raise wrong(section.at("hwaddr"), f"{value!r} is no hardware address of 6, 8 or 20 octets")
    return found


def _with_colons(value: str) -> str:
    digits = re.sub(r"[:.-]", "", value).lower()
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))


def _valid_mac(key: str, value: str) -> str:
    if not value:
        return ""
    found = _with_colons(value)
    digits = found.replace(":", "")
    if not _MAC.fullmatch(found):
        raise wrong(key, f"{value!r} is not a MAC address of 6 octets")
    if int(digits[:2], 16) & 1 or not int(digits, 16):
        raise wrong(key, f"{value} can't be an interface's own address (multicast or zero)")
    return found


def ports(runtime: Section) -> tuple[PortMap, ...]:
    """Capability portMappings; a mapping that comes twice is one."""
    found: dict[tuple[str, int], list[PortMap]] = {}
    for one in runtime.sections("portMappings"):
        mapping = _port(one)
        known = found.setdefault((mapping.protocol, mapping.host_port), [])
        same = next((other for other in known if other.meets(mapping)), mapping)
        if same.container_port != mapping.container_port:
            raise wrong(
                one.at("hostPort"),
                f"{mapping.host_port}/{mapping.protocol} goes to two container ports, "
                f"{same.container_port} and {mapping.container_port}",
            )
        if mapping not in known:
            known.append(mapping)
    return tuple(mapping for known in found.values() for mapping in known)


def _port(one: Section) -> PortMap:
    protocol = one.text("protocol").lower()
    if protocol not in _PROTOCOLS:
        raise wrong(one.at("protocol"), f"{protocol!r} is none of tcp, udp, sctp")
    for key in ("hostPort", "containerPort"):
        if not one.number(key, highest=65535):
            raise wrong(one.at(key), "must be from 1 to 65535")
    host_ip = one.text("hostIP")
    return PortMap(
        host_port=one.number("hostPort"),
        container_port=one.number("containerPort"),
        protocol=_PROTOCOLS[protocol],
        host_ip=address(one.at("hostIP"), host_ip) if host_ip else "",
    )


def bandwidth(runtime: Section) -> Bandwidth:
    """Capability bandwidth: bits/s and bits. Without a rate there is no limit, whatever the burst."""
    given = runtime.section("bandwidth")
    ingress, egress = given.number("ingressRate"), given.number("egressRate")
    return Bandwidth(
        ingress_rate=ingress,
        ingress_burst=_burst(given, "ingressBurst", ingress),
        egress_rate=egress,
        egress_burst=_burst(given, "egressBurst", egress),
    )


def _burst(given: Section, key: str, rate: int) -> int:
    burst = given.number(key)
    return (burst or DEFAULT_BURST) if rate else 0


def ranges(runtime: Section) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Capability ipRanges, in host-local's form: per address wanted, the (first, last) it may be in."""
    found = []
    for path, group in runtime.items("ipRanges"):
        if not isinstance(group, list):
            raise wrong(path, "must be an array of ranges")
        found.append(tuple(_range(Section(one, f"{path}[{at}]")) for at, one in enumerate(group)))
    return tuple(group for group in found if group)


def _range(one: Section) -> tuple[str, str]:
    text = one.text("subnet")
    try:
        subnet = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise wrong(one.at("subnet"), f"{text!r} is not a prefix") from None
    first, last = subnet[0], subnet[-1]
    if subnet.num_addresses > 2:  # the network's own address, and IPv4's broadcast, are no pod's
        first, last = subnet[1], subnet[-2] if subnet.version == 4 else subnet[-1]
    start = address(one.at("rangeStart"), one.text("rangeStart") or str(first))
    end = address(one.at("rangeEnd"), one.text("rangeEnd") or str(last))
    for key, value in (("rangeStart", start), ("rangeEnd", end)):
        if ipaddress.ip_address(value) not in subnet:
            raise wrong(one.at(key), f"{value} is not in {subnet}")
    if int(ipaddress.ip_address(start)) > int(ipaddress.ip_address(end)):
        raise wrong(one.at("rangeEnd"), f"{end} comes before rangeStart {start}")
    return start, end


def aliases(runtime: Section) -> tuple[str, ...]:
    """Capability aliases: names for the pod; podman gives those of each network by the network's name.

    Podway serves no names; they are checked and passed over."""
    if not isinstance(runtime.raw("aliases"), dict):
        return runtime.texts("aliases")
    networks = runtime.section("aliases")
    return tuple(name for network in networks.names for name in networks.texts(network))


def pod_annotations(runtime: Section) -> dict[str, str]:
    """Capability io.kubernetes.cri.pod-annotations: checked; no annotation has a meaning yet."""
    key = "io.kubernetes.cri.pod-annotations"
    value = runtime.raw(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise wrong(runtime.at(key), "must be an object of strings")
    return {name: as_text(f"{runtime.at(key)}.{name}", text) for name, text in value.items()}


def pod_arguments(text: str) -> PodArguments:
    """CNI_ARGS: KEY=VALUE;KEY=VALUE in any order; unknown keys only with IgnoreUnknown."""
    pairs: dict[str, str] = {}
    for piece in filter(None, text.split(";")):
        key, equals, value = piece.partition("=")
        if not equals:
            raise CniError(ENVIRONMENT, f"CNI_ARGS: {piece!r} is not KEY=VALUE")
        pairs[key] = value
    unknown = sorted(pairs.keys() - _KNOWN)
    if unknown and not _boolean(pairs.get("IgnoreUnknown", "false")):
        fix = "leave it out, or set IgnoreUnknown=1"
        raise CniError(ENVIRONMENT, f"CNI_ARGS: unknown {', '.join(unknown)}", fix=fix)
    try:
        asked = tuple(filter(None, (one.strip() for one in pairs.get("IP", "").split(","))))
        found = tuple(address("IP", one) for one in asked)
        gateways = tuple(address("GATEWAY", one) for one in filter(None, pairs.get("GATEWAY", "").split(",")))
        own = _valid_mac("MAC", pairs.get("MAC", ""))
    except CniError as error:
        raise CniError(ENVIRONMENT, f"CNI_ARGS: {error.what}") from None
    names = (pairs.get(_K8S_NAMESPACE, ""), pairs.get(_K8S_NAME, ""))
    pod = "/".join(names) if all(names) else ""
    return PodArguments(ips=found, asked=asked, gateways=gateways, mac=own, pod=pod)


def _boolean(value: str) -> bool:
    if value.lower() in ("1", "true"):
        return True
    if value.lower() in ("0", "false", ""):
        return False
    raise CniError(ENVIRONMENT, f"CNI_ARGS: IgnoreUnknown={value!r} is neither true nor false")
