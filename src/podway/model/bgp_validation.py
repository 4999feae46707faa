"""What must hold within a spec of BGP. Pure; every Problem says where and what to do."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from podway.model import selector
from podway.model.bgp import MAX_PASSWORD, check_text
from podway.model.bgp_specs import (
    BGPAdvertisementSpec,
    BGPConfigurationSpec,
    BGPFilterSpec,
    BGPPeerSpec,
    BgpSpec,
    BGPTopologySpec,
    RuleSpec,
)
from podway.model.problems import Problem

MOST_AS = 4294967294  # RFC 7300: 65535 and 4294967295 are reserved
MOST_HOLD = 65535  # RFC 4271 section 4.2; 1 and 2 are not allowed
AS_TRANS = 23456  # RFC 6793


def bgp_problems(spec: BgpSpec, name: str) -> list[Problem]:
    """Problems of one document of BGP."""
    if isinstance(spec, BGPConfigurationSpec):
        return list(_configuration(spec, name))
    if isinstance(spec, BGPPeerSpec):
        return list(_peer(spec))
    if isinstance(spec, BGPFilterSpec):
        return list(_filter(spec))
    if isinstance(spec, BGPTopologySpec):
        return []  # names of nodes that are no longer there are no harm
    return list(_advertisement(spec))


def _as(number: int, path: str) -> Iterator[Problem]:
    if not 1 <= number <= MOST_AS or number in (AS_TRANS, 65535):
        yield Problem(
            path, f"{number} is no AS number that can be used", "1 to 4294967294, private 64512 to 65534"
        )


def _number(number: int, least: int, most: int, path: str, what: str) -> Iterator[Problem]:
    if not least <= number <= most:
        yield Problem(path, f"{number} is out of range", f"{what}, {least} to {most}")


def _timers(hold: int, keepalive: int, path: str) -> Iterator[Problem]:
    if not 3 <= hold <= MOST_HOLD:
        yield Problem(
            f"{path}.hold", f"{hold} s is no hold time of BGP", f"3 to {MOST_HOLD} (RFC 4271 section 4.2)"
        )
    elif not 1 <= keepalive <= hold // 2:
        yield Problem(
            f"{path}.keepalive", f"{keepalive} s does not fit a hold time of {hold}", f"about {hold // 3}"
        )


def _selector(text: str, path: str) -> Iterator[Problem]:
    try:
        selector.parse(text)
    except ValueError as error:
        yield Problem(path, str(error))


def _configuration(spec: BGPConfigurationSpec, name: str) -> Iterator[Problem]:
    if name != "default":
        yield Problem("metadata.name", f"{name!r}: there is one BGPConfiguration", "name it default")
    yield from _as(spec.as_number, "spec.asNumber")
    yield from _number(spec.port, 1, 65535, "spec.port", "a TCP port")
    yield from _number(spec.mesh_limit, 0, 1000, "spec.meshLimit", "nodes")
    yield from _number(spec.reflectors.count, 2, 8, "spec.reflectors.count", "one alone may fail")
    yield from _number(spec.restart_time, 1, 4095, "spec.restartTime", "seconds (RFC 4724 section 3)")
    yield from _selector(spec.reflectors.selector, "spec.reflectors.selector")
    yield from _timers(spec.hold, spec.keepalive, "spec")


def _peer(spec: BGPPeerSpec) -> Iterator[Problem]:
    yield from _as(spec.as_number, "spec.asNumber")
    if spec.local_as:
        yield from _as(spec.local_as, "spec.localAs")
    if bool(spec.peer_address) == bool(spec.peer_range):
        yield Problem(
            "spec.peerAddress", "one of peerAddress and peerRange says who it is", "peerAddress: 192.0.2.1"
        )
    yield from _address(spec.peer_address, "spec.peerAddress")
    if spec.peer_range:
        found = list(_prefix(spec.peer_range, "spec.peerRange"))
        yield from found
        if not found and ipaddress.ip_network(spec.peer_range).is_link_local:
            what = f"{spec.peer_range} is link-local: it doesn't say on which link"
            yield Problem("spec.peerRange", what, "where the peers' global addresses are")
    if spec.hold or spec.keepalive:
        yield from _timers(spec.hold or 90, spec.keepalive or 1, "spec")
    yield from _number(spec.port, 1, 65535, "spec.port", "a TCP port")
    yield from _number(spec.multihop, 0, 255, "spec.multihop", "hops")
    yield from _number(spec.max_prefixes, 0, 10_000_000, "spec.maxPrefixes", "prefixes")
    if problem := check_text(spec.password, MAX_PASSWORD):
        yield Problem("spec.password", problem, "choose another, of printable ASCII without quotes")
    if spec.ttl_security and spec.multihop:
        yield Problem("spec.ttlSecurity", "is for a peer on the same segment", "remove it, or multihop")
    yield from _selector(spec.node_selector, "spec.nodeSelector")


def _address(text: str, path: str) -> Iterator[Problem]:
    if not text:
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield Problem(path, f"{text!r} is no address", "such as 192.0.2.1")
        return
    if address.is_loopback or address.is_multicast or address.is_unspecified:
        yield Problem(path, f"{text} is no peer's address", "such as 192.0.2.1")
    if address.is_link_local:  # BIRD needs the link's name with it, which differs from node to node
        yield Problem(
            path, f"{text} is link-local: it doesn't say on which link", "the peer's global address"
        )


def _prefix(text: str, path: str) -> Iterator[Problem]:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        yield Problem(path, f"{text!r} is no prefix: {error}", "such as 198.51.100.0/24")


def _filter(spec: BGPFilterSpec) -> Iterator[Problem]:
    for side, rules in (("imports", spec.imports), ("exports", spec.exports)):
        for number, rule in enumerate(rules):
            yield from _rule(rule, f"spec.{side}[{number}]")


def _rule(rule: RuleSpec, path: str) -> Iterator[Problem]:
    for number, prefix in enumerate(rule.prefixes):
        where = f"{path}.prefixes[{number}]"
        found = list(_prefix(prefix.cidr, f"{where}.cidr"))
        yield from found
        if found:
            continue
        network = ipaddress.ip_network(prefix.cidr)
        low = network.prefixlen if prefix.min is None else prefix.min
        high = max(low, network.prefixlen) if prefix.max is None else prefix.max
        if not network.prefixlen <= low <= high <= network.max_prefixlen:
            yield Problem(
                where, f"lengths {low} to {high} are none of {network}", f"{network.prefixlen} or more"
            )
    for key, communities in (("communities", rule.communities), ("addCommunities", rule.add_communities)):
        for number, text in enumerate(communities):
            yield from _community(text, f"{path}.{key}[{number}]")
    if rule.as_path:
        yield from _as(rule.as_path, f"{path}.asPath")
    yield from _number(rule.prepend, 0, 16, f"{path}.prepend", "times")
    if rule.set_local_preference is not None:
        yield from _number(
            rule.set_local_preference, 0, 4294967295, f"{path}.setLocalPreference", "a preference"
        )


def _community(text: str, path: str) -> Iterator[Problem]:
    parts = text.split(":") if re.fullmatch(r"\d{1,10}(:\d{1,10}){1,2}", text) else []
    most = 65535 if len(parts) == 2 else 4294967295
    if not parts or any(int(part) > most for part in parts):
        yield Problem(
            path, f"{text!r} is no community", "A:B up to 65535, or large A:B:C (RFC 1997, RFC 8092)"
        )


def _advertisement(spec: BGPAdvertisementSpec) -> Iterator[Problem]:
    if not spec.prefixes:
        yield Problem("spec.prefixes", "there is none", "prefixes: [10.96.0.0/16]")
    for number, text in enumerate(spec.prefixes):
        path = f"spec.prefixes[{number}]"
        found = list(_prefix(text, path))
        yield from found
        if not found and ipaddress.ip_network(text).prefixlen == 0:
            yield Problem(path, "every node would announce a default route", "name what it has")
    if spec.external_traffic_policy == "Local" and not spec.nodes:
        yield Problem(
            "spec.nodes", "Local without nodes is announced by none", "name the nodes with an endpoint"
        )
    if spec.external_traffic_policy == "Cluster" and spec.nodes:
        yield Problem("spec.nodes", "is for externalTrafficPolicy Local", "remove it, or use nodeSelector")
    yield from _selector(spec.node_selector, "spec.nodeSelector")
