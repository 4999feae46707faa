"""From what a runtime sends to an AttachRequest: environment, network configuration, runtimeConfig.

Configuration keys of Podway's own, beside the contract's (name, type, cniVersion, capabilities,
runtimeConfig, args, dns, prevResult):

    network       name of the Podway Network; default: the configuration's name
    mtu           of the pod's interface; default: the network's
    routes        [{dst, gw}] inside the pod, beside the default route
    defaultRoute  false for a second interface; default true
    socket, fallback   for the executable only, see shim/podway-cni.c

Unknown keys are ignored, as the contract demands. What is read, is read strictly.
"""

from __future__ import annotations

import ipaddress
import re

import msgspec

from podway.cni.errors import DECODE, ENVIRONMENT, VERSION, CniError, wrong
from podway.cni.protocol import NEWEST, OLDEST, SINCE, VERSIONS, Call, Dns, Identity, at_least
from podway.cni.reader import Section
from podway.cni.runtime import (
    address,
    aliases,
    bandwidth,
    ips,
    mac,
    pod_annotations,
    pod_arguments,
    ports,
    ranges,
)
from podway.model.resources import PodRoute
from podway.node.requests import AttachRequest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # the contract's rule for container IDs and network names
_IFNAMSIZ = 15
_VALID = ("cni.dev/valid-attachments", "cni.dev/attachments")  # the spec's word, and its older examples
_SMALLEST_MTU = 68  # RFC 791


class Conf(msgspec.Struct, frozen=True, kw_only=True):
    """A network configuration whose version and names are valid; the rest is still to be read."""

    version: str
    name: str
    network: str
    section: Section


def decode(stdin: bytes) -> Section:
    """The JSON object on stdin. Raises CniError 6."""
    try:
        value = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CniError(DECODE, f"stdin is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CniError(DECODE, "stdin is not a JSON object")
    return Section(value)


def answer_version(stdin: bytes) -> str:
    """The version to speak whatever else is wrong: the configuration's if supported, else the newest.

    The executable answers VERSION by the same rule, so ``cniVersion`` is matched exactly here."""
    try:
        value = msgspec.json.decode(stdin)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return NEWEST
    found = value.get("cniVersion") if isinstance(value, dict) else None
    return found if isinstance(found, str) and found in VERSIONS else NEWEST


def load(section: Section, command: str) -> Conf:
    """Version and names of a configuration. Raises CniError 1 or 7."""
    version = section.text("cniVersion") or OLDEST
    if version not in VERSIONS:
        raise CniError(
            VERSION, f"cniVersion {version} is not supported", fix=f"use one of {', '.join(VERSIONS)}"
        )
    if command in SINCE and not at_least(version, SINCE[command]):
        raise CniError(
            VERSION, f"{command} needs cniVersion {SINCE[command]} or later; the configuration says {version}"
        )
    name = _valid_name(section, "name", section.text("name"))
    network = _valid_name(section, "network", section.text("network") or name)
    return Conf(version=version, name=name, network=network, section=section)


def _valid_name(section: Section, key: str, value: str) -> str:
    if not NAME.fullmatch(value):
        said = f"{value!r} is not a name" if value else "is missing"
        raise wrong(section.at(key), said, "start with a letter or digit; then letters, digits, _ . -")
    return value


def identity(call: Call, namespace_required: bool) -> Identity:
    """Whose interface the call is about. Raises CniError 4 that names the variable."""
    container = call.env.get("CNI_CONTAINERID", "")
    ifname = call.env.get("CNI_IFNAME", "")
    namespace = call.env.get("CNI_NETNS", "")
    if not container:
        raise CniError(ENVIRONMENT, "CNI_CONTAINERID is missing")
    if not NAME.fullmatch(container):
        raise CniError(ENVIRONMENT, f"CNI_CONTAINERID: {container!r} is not a container ID")
    if not ifname:
        raise CniError(ENVIRONMENT, "CNI_IFNAME is missing")
    if problem := ifname_problem(ifname):
        raise CniError(ENVIRONMENT, f"CNI_IFNAME: {ifname!r} {problem}")
    if namespace_required and not namespace:
        raise CniError(ENVIRONMENT, "CNI_NETNS is missing")
    if namespace_required and not _is_utf8(namespace):
        raise CniError(ENVIRONMENT, "CNI_NETNS is not UTF-8, so no result could name it")
    return Identity(container=container, ifname=ifname, namespace=namespace)


def ifname_problem(ifname: str) -> str:
    """What the kernel has against a name (net/core/dev.c dev_valid_name, dev_alloc_name), "" when nothing."""
    if not _is_utf8(ifname):
        return "is not UTF-8"
    if len(ifname.encode()) > _IFNAMSIZ:
        return f"is longer than {_IFNAMSIZ} bytes"
    if ifname in (".", "..") or any(letter in "/:" or letter.isspace() for letter in ifname):
        return "is no interface name: not . or .., no / : or space"
    if "%" in ifname:
        return "holds a %, by which the kernel chooses a name itself"
    return ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def attach_request(call: Call, conf: Conf, who: Identity) -> AttachRequest:
    """Everything that an ADD or a CHECK asks for. Raises CniError 4 or 7, naming the key."""
    runtime = conf.section.section("runtimeConfig")
    asked = conf.section.section("args").section("cni")
    arguments = pod_arguments(call.env.get("CNI_ARGS", ""))
    aliases(runtime)
    pod_annotations(runtime)
    return AttachRequest(
        container=who.container,
        ifname=who.ifname,
        network=conf.network,
        namespace=who.namespace,
        ips=ips(runtime) or ips(asked) or arguments.ips,
        ranges=ranges(runtime),
        mac=mac(runtime) or mac(asked) or arguments.mac,
        mtu=mtu(conf.section),
        ports=ports(runtime),
        bandwidth=bandwidth(runtime),
        routes=_routes(conf.section),
        default_route=conf.section.flag("defaultRoute", True),
        pod=arguments.pod,
        configuration=conf.name,
    )


def mtu(section: Section) -> int:
    """``mtu``, 0 when absent. Raises CniError 7."""
    found = section.number("mtu", highest=65535)
    if found and found < _SMALLEST_MTU:
        raise wrong(section.at("mtu"), f"{found} is smaller than {_SMALLEST_MTU}, the least an IPv4 link has")
    return found


def _routes(section: Section) -> tuple[PodRoute, ...]:
    found = []
    for one in section.sections("routes"):
        dst, gw = one.text("dst"), one.text("gw")
        try:
            prefix = ipaddress.ip_network(dst, strict=False)
        except ValueError:
            raise wrong(one.at("dst"), f"{dst!r} is not a prefix") from None
        gateway = address(one.at("gw"), gw) if gw else ""
        if gateway and ipaddress.ip_address(gateway).version != prefix.version:
            raise wrong(one.at("gw"), f"{gateway} is not of the family of {prefix}")
        found.append(PodRoute(dst=str(prefix), gw=gateway))
    return tuple(found)


def own_dns(section: Section) -> Dns:
    """``dns`` of the configuration."""
    own = section.section("dns")
    return Dns(
        nameservers=own.texts("nameservers"),
        domain=own.text("domain"),
        search=own.texts("search"),
        options=own.texts("options"),
    )


def dns(section: Section) -> Dns:
    """``dns`` of the configuration, each list overridden by the runtime's (capability ``dns``)."""
    own, given = own_dns(section), section.section("runtimeConfig").section("dns")
    return Dns(
        nameservers=given.texts("servers") or own.nameservers,
        domain=own.domain,
        search=given.texts("searches") or own.search,
        options=given.texts("options") or own.options,
    )


def collects_nothing(section: Section, command: str) -> bool:
    """Whether a call is a GC that doesn't say what to keep: no order to remove everything.

    libcni sends it for a GC without arguments (cnitool), after a DEL for each attachment that it knows."""
    return command == "GC" and not any(section.present(key) for key in _VALID)


def valid_attachments(section: Section) -> frozenset[tuple[str, str]]:
    """{(container, ifname)} that GC must keep. null means none.

    Raises CniError 7 when the key isn't there at all: that is no order to remove everything."""
    for key in _VALID:
        if section.present(key):
            entries = section.sections(key)
            return frozenset((one.text("containerID"), one.text("ifname")) for one in entries)
    raise wrong("cni.dev/valid-attachments", "is missing, so nothing was removed")
