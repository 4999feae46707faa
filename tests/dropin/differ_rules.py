"""Differences that are meant, by name. ``docs/cni.md`` tells of each of ours; a difference that no rule has
fails the test.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from differ_options import ANOTHER_MAC, OTHER_MAC, TAP_MAC
from differential import ABSENT, Difference


class Rule(NamedTuple):
    """``path``: what it is about, fully matched. ``holds``: of (left, right), for what isn't all alike.
    ``undone``: the right side has there what it had before the step.

    ``because``: found in the words of either side's error, for what only that explains. ``beside``: the path,
    below its step, of another difference of the same step that it follows from."""

    name: str
    path: str
    holds: Callable[[Any, Any], bool] = lambda left, right: True
    because: str = ""
    beside: str = ""
    undone: bool = False

    def explains(self, one: Difference, paths: frozenset[str]) -> bool:
        fits = re.fullmatch(self.path, one.path) and re.search(self.because, " ".join(one.said))
        follows = not self.beside or f"/{one.path.split('/')[1]}{self.beside}" in paths
        stands = not self.undone or one.right == one.was
        return bool(fits) and follows and stands and self.holds(one.left, one.right)


_STEP = r"/\d+ (?:ADD|CHECK|DEL|GC)(?: nowhere| damaged| changed)?"
_ANSWER = _STEP + r"/answers/\d+"
_DEL = r"/\d+ DEL(?: nowhere| damaged| changed)?/answers/\d+"
#: of docs/cni.md, but for the defect (100)
_OWN_CODES = (1, 4, 5, 6, 7, 8, 11, 50, 101)
#: in the release's words: of a configuration, and of what is gone (an interface, a namespace that is none)
_MISTAKES = "|".join(
    (
        "if rate is set, burst must also be set",
        "Invalid host port number: 0",
        "no such file or directory",
        "unknown FS magic",
        "in containerNS: Link not found",
        'specify either "device"',
        "invalid VLAN ID",
        "incorrect trunk|minID",
        '"master" field is required',
        "dummy interface requires an IPAM",
        "unknown ingress policy",
        "MasqMarkBit must be between",
        "no plugin name provided",
        "invalid MTU .*, must be",
        "error parsing value of pair",
        "backend was requested but configuration",
        "not in network",
        "range set . overlaps with",
        "does not support more than 1 address per family",
        "CHAIN_DEL failed",  # of two addresses of a family with ipMasq
    )
)
#: by which the release fails an ADD when link and bridge stand already
_REFUSALS = "|".join(
    (
        "failed to allocate",
        "expected to be in CIDR notation",
        "NOT in CIDR notation",
        "already has an IP address different",
        "gave no address",
        "failed to add route",
        "failed to add IP addr .*to veth",
        "with non-loopback address",
        "returned missing IP config",
        "no plugin name provided",
        "failed to rename .*: file exists",
        "peer provided .* already exists",  # what an ADD that was refused has left
        "address already in use",  # a macvlan's MAC that tuning sets
        "failed to find host device: ",  # or has taken away
        "network is unreachable",
        "range set . overlaps with",
        "does not support more than 1 address per family",
        "invalid MAC address",
        "not in network",
    )
)
#: where ours ends a chain, and those that come after have done nothing
_ENDED = r"/\d+ (?:ADD|DEL)/(?:answers|node|pod|effects|files)(?:/.*)?"
_VERSION = r"/\d+ VERSION/answers/\d+/.*"


def _pair(left: Any, right: Any) -> Callable[[Any, Any], bool]:
    return lambda *both: both == (left, right)


def _unequal_texts(start: str) -> Callable[[Any, Any], bool]:
    return lambda left, right: all(str(one).startswith((start, "00:00:00")) for one in (left, right))


#: the current release, and Podway's
DELIBERATE = (
    Rule("versions", _VERSION),
    Rule("own-codes", _ANSWER + "/code", lambda left, right: left in (100, 999) and right in _OWN_CODES),
    Rule("own-codes", _ANSWER + "/details", _pair(False, True)),
    Rule("owned-by-alias", _STEP + "/(?:node|pod)/links/[^/]+/ifalias", lambda left, right: left == ABSENT),
    Rule("owned-by-protocol", _STEP + "/node/routes/.*/protocol", lambda *both: both == ("boot", "112")),
    Rule("forwarding", _STEP + "/node/sysctls/(?:ipv4/ip_forward|ipv6/conf/all/forwarding)", _pair("0", "1")),
    Rule("forwarding", _STEP + "/node/sysctls/ipv4/conf/all/send_redirects", _pair("1", "0")),
    Rule(  # a bridge of somebody's leads to the pod, and the reference forwards nothing to it
        "forwarding",
        r"/\d+ ADD/effects/outside to .*",
        lambda left, right: left == "no answer",
        beside="/node/sysctls/ipv4/ip_forward",
    ),
    Rule("repaired", r"/\d+ (?:CHECK|DEL) damaged/(?:node|pod)/.*", undone=True),
    Rule("repaired", r"/\d+ CHECK damaged/answers/\d+/failed", _pair(True, False)),
    Rule("repaired", r"/\d+ CHECK damaged/answers/\d+/answer", _pair(ABSENT, {})),
    Rule(
        "repaired",
        r"/\d+ CHECK damaged/answers/\d+/(?:code|msg|details)",
        lambda left, right: right == ABSENT,
    ),
    Rule(
        "any-spelling",
        r"/\d+ CHECK(?: damaged| changed)?/answers/\d+/.*",
        because="Tuning configured Ethernet of eth0 is C2:",
    ),
    Rule(  # by CNI_ARGS alone, as repeats() draws it
        "last-tuning",
        r"/\d+ CHECK(?: damaged| changed)?/answers/\d+/.*",
        because=f"Ethernet of eth0 is \\S+, current value is (?:{OTHER_MAC}|{ANOTHER_MAC})",
    ),
    Rule(
        "tuned-twice",
        r"/\d+ DEL(?: damaged| changed)?/node/links/dev0/(?:mtu|address|promiscuity|allmulti|flags/\d)",
        lambda left, right: right in (1500, "c2:11:22:33:44:77", 0, "BROADCAST", "MULTICAST", ABSENT),
    ),
    Rule(
        "check-without-ipam",
        r"/\d+ CHECK(?: damaged| changed)?/answers/\d+/.*",
        because="no plugin name provided",
    ),
    Rule(
        "checks-all",
        r"/\d+ CHECK changed/answers/\d+/.*",
        because="(?:differs|is missing) in the pod",
    ),
    Rule("router-advertisements", _STEP + "/node/sysctls/ipv6/.+/accept_ra"),
    Rule("no-arp-notify", _STEP + "/pod/sysctls/ipv4/eth0/arp_notify"),
    Rule("no-dad", _STEP + "/(?:pod|node)/(?:sysctls/ipv6/.+/(?:accept|enhanced)_dad|addresses/.*/nodad)"),
    Rule(
        "usable-bridge", _STEP + "/node/sysctls/ipv6/cni0/addr_gen_mode", lambda *both: both == (ABSENT, "1")
    ),
    Rule("usual-queue", _STEP + "/(?:pod|node)/links/[^/]+/txqlen", lambda *both: ABSENT in both),
    Rule(
        "ptp-addresses", _STEP + "/pod/addresses/eth0 .*/noprefixroute", lambda *both: both == (ABSENT, True)
    ),
    Rule("tuning-journalled", _STEP + "/files/c[12]_eth0.json", lambda left, right: right == ABSENT),
    Rule("tuning-journalled", _STEP + "/files", lambda left, right: (left, right) == (ABSENT, {})),
    Rule("bridge-stays-itself", _STEP + "/node/links/cni0/mtu"),
    Rule("bridge-stays-itself", _STEP + "/node/links/[^/]+/address", _unequal_texts("<mac of node")),
    Rule("bridge-stays-itself", _ANSWER + "/answer/interfaces/[01]/mac", _unequal_texts("<mac of node")),
    Rule(  # which the next port may have changed since
        "bridge-stays-itself",
        r"/\d+ CHECK(?: damaged| changed)?/answers/\d+/.*",
        because="Bridge interface cni0 Mac doesn't match",
    ),
    Rule("delete-succeeds", _DEL + "/failed", _pair(True, False), _MISTAKES),
    Rule("delete-succeeds", _DEL + "/(?:code|msg|details)", lambda left, right: right == ABSENT, _MISTAKES),
    Rule("delete-succeeds", _DEL + "/answer", _pair(ABSENT, {}), _MISTAKES),
    Rule(
        "refused-first",
        r"/\d+ (?:ADD|DEL) nowhere/(?:node/.*\bcni0\b.*|node/sysctls/.*"
        r"|files(?:/[\da-f.:]+|/last_reserved_ip[.]\d)?)",
        lambda left, right: right in (ABSENT, {}, []),
    ),
    Rule(  # until the runtime's DEL; a port more is seen on its bridge, too
        "nothing-of-a-failure",
        _STEP + "/(?:node|pod|files)(?:/.*)?",
        lambda left, right: right in (ABSENT, {}, []),
        _REFUSALS,
    ),
    Rule(  # whatever it failed for
        "nothing-of-a-failure",
        r"/\d+ ADD(?: nowhere)?/(?:node|pod|files)(?:/.*)?",
        because=r"\S",
        undone=True,
    ),
    Rule(  # nor is a bridge changed, or a device taken away
        "nothing-of-a-failure",
        _STEP + r"/node/(?:links|sysctls/ipv\d)/(?:dev0/.*|(?:cni0|up0)/(?:promiscuity|flags/\d))",
        because=_REFUSALS,
    ),
    Rule(  # of one that forceAddress had moved
        "nothing-of-a-failure",
        _STEP + "/node/addresses/cni0 .*/broadcast",
        lambda left, right: left == ABSENT,
        because=_REFUSALS,
    ),
    Rule("ipam-dns", _ANSWER + "/answer/dns(?:/.*)?", lambda left, right: left in (ABSENT, {})),
    Rule(
        "no-limit-no-peer",
        r"/\d+ CHECK(?: damaged| changed)?/answers/\d+/.*",
        because="no veth peer of container interface found|has no veth peer: .* was not a veth interface",
    ),
    Rule(
        "shared-gateway",
        r"/\d+ ADD/.*",
        because=r"failed to add route \{.* Dst: \S+/(?:32|128) .*: file exists",
    ),
    Rule("vrf-in-time", r"/\d+ ADD/.*", because=r"could not add route \{.* Table: \d+ .*: invalid argument"),
    Rule("no-silent-ports", _ENDED, because="has no address of eth0 that ports could lead to"),
    Rule("no-policy-of-others", _ENDED, because="ingressPolicy: needs a bridge"),
    Rule(
        "counted",
        _STEP + r"/files(?:/last_reserved_ip.\d)?",
        lambda left, right: left in ({}, ABSENT),
    ),
    Rule("several-addresses", _STEP + "/.*", because='error parsing value of pair "IP='),
    Rule("on-link-in-vrf", _STEP + r"/pod/routes/\S+ (?:1|77) eth0/.*", lambda left, right: left == ABSENT),
    Rule("own-families", _STEP + "/pod/sysctls/ipv6/eth0/ndisc_notify", lambda *both: both == ("1", ABSENT)),
    Rule("link-local", _STEP + "/node/sysctls/ipv6/[^/]+/addr_gen_mode", lambda left, right: left == ABSENT),
    Rule(
        "nothing-left",
        r"/\d+ (?:DEL|GC)(?: damaged| changed)?/rules of the gone(?:/\d)?",
        lambda left, right: right in (ABSENT, []),
    ),
    Rule("whole-tap", _STEP + "/pod/links/eth0/options/(?:vnet_hdr|pi)", _pair(True, False)),
    Rule("whole-tap", _STEP + "/pod/links/eth0/mtu", _pair(1500, 1450)),  # which only a tap is asked for
    Rule(
        "asked-mac",
        _STEP + "/.*(?:address|mac)",
        lambda left, right: (
            left.startswith(("<mac of pod eth0", "<unseen mac>"))
            and right in (OTHER_MAC, ANOTHER_MAC, TAP_MAC)
        ),
    ),
    Rule("no-second-tap", r"/\d+ ADD/answers/\d+/.*", because="plugin tap has served interface eth0"),
    Rule("no-second-tap", _STEP + "/pod/.*<veth[0-9]>.*", lambda left, right: right == ABSENT),
    Rule("lease-given-back", r"/\d+ (?:DEL|CHECK)/leases(?:/\d+)?"),
    Rule(
        "shape-of-version",
        r"/\d+ ADD/answers/0/answer/(?:interfaces/0/.*|ips/.*|ip[46]/ip)",
        lambda *both: ABSENT in both,
        beside="/answers/0/answer/ip4/ip",
    ),
    Rule("shape-of-version", _ANSWER + r"/answer/ips/\d/version", lambda left, right: left == ABSENT),
    Rule("shape-of-version", _STEP + "/.*", because="cannot convert: no valid IP addresses"),
    Rule("shape-of-version", _ANSWER + r"/answer/routes/\d+/priority", lambda left, right: right == ABSENT),
    Rule("route-localnet", _STEP + "/node/sysctls/ipv4/up0/route_localnet", _pair("1", ABSENT)),
    Rule("route-localnet", _STEP + "/node/sysctls/ipv4/(?:cni0|<veth.*>)/route_localnet", _pair(ABSENT, "1")),
)
#: Debian's package, and the current release
UPSTREAM = (
    Rule("versions", _VERSION),
    Rule("newer-commands", r"/\d+ (?:STATUS|GC)/answers/\d+/code", _pair(3, 1)),
    Rule("dns-told", _ANSWER + "/answer/dns(?:/.*)?"),
    Rule("addresses-kept-on-down", _STEP + "/pod/sysctls/ipv6/eth0/keep_addr_on_down"),
    # Debian's portmap looks for IPv6 rules that it never made, its tuning for a link named IFNAME, its sbr's
    # DEL for the interface
    Rule("failed-once", r"/\d+ (?:CHECK|DEL)/answers/\d+/(?:failed|code|msg|details|answer)"),
    Rule("table-of-sbr", _STEP + "/pod/(?:routes|rules)/.*"),  # which Debian's doesn't know
    Rule(
        "usual-queue", _STEP + "/(?:pod|node)/links/[^/]+/txqlen", lambda left, right: ABSENT in (left, right)
    ),
)


def unexplained(found: list[Difference], rules: tuple[Rule, ...]) -> list[Difference]:
    """Those that no rule has a name for."""
    paths = frozenset(one.path for one in found)
    return [one for one in found if not any(rule.explains(one, paths) for rule in rules)]
