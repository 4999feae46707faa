"""The configuration of host-local, from a network configuration's ``ipam`` and what the runtime asks for."""

from __future__ import annotations

import ipaddress
import itertools
import os
import stat

import msgspec

from podway.cni import result, runtime
from podway.cni.dropin.ask import Ask
from podway.cni.errors import wrong
from podway.cni.protocol import Address, Dns, Result, Route, at_least
from podway.cni.reader import Section
from podway.ipam.hostlocal import Given, Range, RangeSet
from podway.model.objects import family_of

_RESOLV_LIMIT = 64 * 1024  # bytes


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of host-local. ``wanted``: addresses asked for, bare."""

    directory: str
    sets: tuple[RangeSet, ...]
    wanted: tuple[str, ...]
    routes: tuple[Route, ...]
    resolv: str

    def result(self, given: list[Given]) -> Result:
        """As the reference plugin answers. Raises CniError 7 when resolvConf can't be read."""
        ips = tuple(Address(address=one.prefixed, gateway=one.range.gateway) for one in given)
        return Result(ips=ips, routes=self.routes, dns=_resolver(self.resolv) if self.resolv else Dns())


def directory(section: Section) -> str:
    """``dataDir``, "" for the default. Raises CniError 7 unless it is absolute."""
    return _absolute(section, "dataDir")


def _absolute(section: Section, key: str) -> str:
    """A path or "": a relative one would be looked for in the agent's directory, not the runtime's."""
    found = section.text(key)
    if found and (not found.startswith("/") or "\0" in found):
        raise wrong(section.at(key), f"{found!r} is no absolute path")
    return found


def settings(ask: Ask) -> Settings:
    """Raises CniError 7, naming the key."""
    own = ask.section.section("ipam")
    run = ask.section.section("runtimeConfig")
    sets = [*_sets(run, "ipRanges"), *([(_range(own),)] if own.text("subnet") else []), *_sets(own, "ranges")]
    if not sets:
        raise wrong(own.at("ranges"), "is missing, so there is no address to give")
    _refuse_overlaps(own, sets)
    if not at_least(ask.conf.version, "0.3.0"):
        families = [family_of(ranges[0].first) for ranges in sets]
        if len(set(families)) < len(families):
            raise wrong(own.at("ranges"), f"cniVersion {ask.conf.version} has room for one address a family")
    wanted = (
        *runtime.pod_arguments(ask.call.env.get("CNI_ARGS", "")).ips,
        *runtime.ips(ask.section.section("args").section("cni")),
        *runtime.ips(run),
    )
    return Settings(
        directory=directory(own),
        sets=tuple(sets),
        wanted=tuple(dict.fromkeys(wanted)),
        routes=tuple(result.decode_route(one) for one in own.sections("routes")),
        resolv=_absolute(own, "resolvConf"),
    )


def _sets(section: Section, key: str) -> list[RangeSet]:
    found = []
    for path, group in section.items(key):
        if not isinstance(group, list):
            raise wrong(path, "must be an array of ranges")
        ranges = tuple(_range(Section(one, f"{path}[{at}]")) for at, one in enumerate(group))
        if not ranges:
            raise wrong(path, "has no range")
        if len({family_of(one.first) for one in ranges}) > 1:
            raise wrong(path, "mixes IPv4 and IPv6", "give each family a set of its own")
        found.append(ranges)
    return found


def _range(one: Section) -> Range:
    text = one.text("subnet")
    try:
        subnet = ipaddress.ip_network(text)
    except ValueError as error:
        raise wrong(
            one.at("subnet"), f"{text!r} is not a prefix: {error}" if text else "is missing"
        ) from None
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        raise wrong(one.at("subnet"), f"{subnet} is too small to give addresses from")
    last = subnet[-2] if subnet.version == 4 else subnet[-1]  # IPv4's broadcast is nobody's
    found = Range(
        subnet=str(subnet),
        first=_inside(one, "rangeStart", subnet) or str(subnet[1]),
        last=_inside(one, "rangeEnd", subnet) or str(last),
        gateway=_gateway(one, subnet) or str(subnet[1]),
    )
    if int(ipaddress.ip_address(found.first)) > int(ipaddress.ip_address(found.last)):
        raise wrong(one.at("rangeEnd"), f"{found.last} comes before rangeStart {found.first}")
    return found


Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def _inside(one: Section, key: str, subnet: Subnet) -> str:
    text = one.text(key)
    if not text:
        return ""
    found = runtime.address(one.at(key), text)
    if ipaddress.ip_address(found) not in subnet:
        raise wrong(one.at(key), f"{found} is not in {subnet}")
    return found


def _gateway(one: Section, subnet: Subnet) -> str:
    text = one.text("gateway")
    if not text:
        return ""
    found = runtime.address(one.at("gateway"), text)
    if ipaddress.ip_address(found).version != subnet.version:
        raise wrong(one.at("gateway"), f"{found} is not of the family of {subnet}")
    return found


def _refuse_overlaps(own: Section, sets: list[RangeSet]) -> None:
    bounds = [
        (ipaddress.ip_address(one.first), ipaddress.ip_address(one.last)) for ranges in sets for one in ranges
    ]
    for family in (4, 6):
        mine = sorted((int(first), int(last)) for first, last in bounds if first.version == family)
        for (_, last), (first, _) in itertools.pairwise(mine):
            if first <= last:
                raise wrong(own.at("ranges"), "two ranges overlap, so an address could be given twice")


def _resolver(path: str) -> Dns:
    """What a resolv.conf(5) says."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise wrong("ipam.resolvConf", f"{path} can't be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise wrong("ipam.resolvConf", f"{path} is no file")
        text = os.read(fd, _RESOLV_LIMIT).decode(errors="replace")
    finally:
        os.close(fd)
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    domain = ""
    for line in text.splitlines():
        key, *values = line.split("#")[0].split(";")[0].split() or [""]
        if key == "nameserver":
            servers += values[:1]
        elif key == "domain" and values:
            domain = values[0]
        elif key == "search":
            search += values
        elif key == "options":
            options += values
    return Dns(nameservers=tuple(servers), domain=domain, search=tuple(search), options=tuple(options))
