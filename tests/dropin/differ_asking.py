"""Generated chains that are asked for what is more seldom: addresses, MACs and name servers by each way."""

from __future__ import annotations

from typing import Any

import msgspec
from differ_cases import REFUSED, SCRIPTS, SECOND, fitting
from differ_options import ANOTHER_MAC, OTHER_MAC
from differ_world import Case, Step
from hypothesis import strategies as st

_DNS = {
    "nameservers": ["192.0.2.53", "2001:db8::53"],
    "domain": "example.test",
    "search": ["example.test"],
    "options": ["ndots:2"],
}
_TOLD_DNS = {"nameservers": ["192.0.2.55"], "searches": ["told.test"]}
_RANGES = [[{"subnet": "10.88.0.0/16", "rangeStart": "10.88.5.5", "rangeEnd": "10.88.5.9"}]]
_OF_BRIDGES = ("portIsolation", "macspoofchk", "enabledad", "forceAddress")
#: a bridge of somebody's, whose address is in the way of the pods' gateway
_STANDING = ("ip link add cni0 type bridge", "ip addr add 10.88.9.9/16 dev cni0", "ip link set cni0 up")
_ADDRESSES = [
    {"address": "10.88.7.5/16", "gateway": "10.88.0.1"},
    {"address": "10.88.7.6/16"},
    {"address": "fd00:10:88::7:5/64", "gateway": "fd00:10:88::1"},
]
_ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "203.0.113.0/24", "gw": "10.88.0.9"}, {"dst": "::/0"}]
#: addresses that a runtime asks for; host-local refuses the last, and static the one before it
_ASKED = [["10.88.3.3/16"], ["10.88.3.3/16", "fd00:10:88::33/64"], ["10.88.3.3"], ["192.0.2.7/24"]]


def _some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), unique_by=str, max_size=len(values))


class _Draft(msgspec.Struct):
    """A case that is being asked for more."""

    main: dict[str, Any]
    told: dict[str, Any]
    before: tuple[str, ...]
    steps: tuple[Step, ...]
    arguments: list[str] = []

    @property
    def is_alone(self) -> bool:
        """Whether no second pod gets the same."""
        return SECOND not in self.steps

    def ask(self, way: str, key: str, value: Any, argument: str) -> None:
        """``way``: "capability", "args" (args.cni), "CNI_ARGS", or "" for none."""
        if way == "capability":
            self.main["capabilities"] = self.main.get("capabilities", {}) | {key: True}
            self.told[key] = value
        elif way == "args":
            cni = self.main.get("args", {}).get("cni", {})
            self.main["args"] = {"cni": {**cni, key: value}}
        elif way == "CNI_ARGS":
            self.arguments.append(argument)


_WAYS = st.sampled_from(["", "", "capability", "args", "CNI_ARGS"])


@st.composite
def asking(draw: st.DrawFn, some: st.SearchStrategy[Case]) -> Case:
    """The same cases with what is asked for more seldom: name servers, a bridge that is somebody's, addresses
    that are written down, or that a runtime asks for by one of three ways, as it does for a MAC.

    What may be refused is deleted then, as runtimes do."""
    case = draw(some)
    draft = _Draft(dict(case.plugins[0]), dict(case.capabilities), case.before, case.steps)
    _name_servers(draw, draft)
    if draft.main["type"] == "bridge":
        _bridge(draw, draft)
    if "ipam" in draft.main and draft.is_alone:
        _addresses(draw, draft)
    if draft.is_alone:
        _macs(draw, draft)
    arguments = ";".join(["IgnoreUnknown=1", *draft.arguments]) if draft.arguments else ""
    return msgspec.structs.replace(
        case,
        plugins=(fitting(case.version, draft.main), *case.plugins[1:]),
        steps=draft.steps,
        capabilities=draft.told,
        arguments=arguments,
        before=draft.before,
    )


def _name_servers(draw: st.DrawFn, draft: _Draft) -> None:
    if draw(st.booleans()):
        draft.main["dns"] = _DNS
    if draw(st.integers(0, 3)) == 0:
        draft.ask("capability", "dns", _TOLD_DNS, "")


def _bridge(draw: st.DrawFn, draft: _Draft) -> None:
    draft.main |= {key: True for key in _OF_BRIDGES if draw(st.integers(0, 2)) == 0}
    if draft.steps != SCRIPTS["no namespace"] and draw(st.integers(0, 3)) == 0:
        draft.before += _STANDING
        taken = draft.main.get("isGateway") and not draft.main.get("forceAddress")
        draft.steps = REFUSED if taken else draft.steps


def _addresses(draw: st.DrawFn, draft: _Draft) -> None:
    main = draft.main
    way = draw(_WAYS)
    if draw(st.booleans()):
        routed = main["type"] == "ptp"
        routes = [one for one in _ROUTES if "gw" in one or "isDefaultGateway" not in main]
        routes = [one for one in routes if not (routed and "gw" in one)]  # which the reference's sbr fails on
        addresses = draw(_some(_ADDRESSES))
        if routed and any("gateway" not in one for one in addresses):
            draft.steps = REFUSED
        main["ipam"] = {"type": "static", "addresses": addresses, "routes": draw(_some(routes))}
        main["ipam"] |= draw(st.sampled_from([{}, {"dns": _DNS}]))
        way = "" if routed else way  # which has no way but by gateways
    elif draw(st.integers(0, 3)) == 0:
        ranges = main["ipam"].pop("ranges") if draw(st.integers(0, 3)) else None
        draft.steps = draft.steps if ranges and not way else REFUSED  # all that is asked for is in none
        draft.ask("capability", "ipRanges", _RANGES, "")
    asked = draw(st.sampled_from(_ASKED))
    if way and asked in _ASKED[2:]:
        draft.steps = REFUSED
    gateway = draw(st.sampled_from(["", ";GATEWAY=10.88.0.1"]))
    draft.ask(way, "ips", asked, f"IP={','.join(asked)}{gateway}")


def _macs(draw: st.DrawFn, draft: _Draft) -> None:
    """By one way or by two, which then ask for different ones; what the reference has but for its bridge,
    args.cni, not beside others."""
    ways = [draw(_WAYS), draw(_WAYS)]
    first = draw(st.sampled_from([OTHER_MAC, OTHER_MAC, OTHER_MAC.upper(), "none"]))
    if draft.main["type"] != "bridge" and "args" in ways:
        draft.main.pop("mac", None)
        ways, first = ["args", ""], OTHER_MAC
    if ways[1] or draft.main["type"] not in ("bridge", "macvlan", "tap"):  # the reference doesn't look at it
        first = OTHER_MAC
    for mac, way in zip((first, ANOTHER_MAC), ways, strict=True):
        draft.ask(way, "mac", mac, f"MAC={mac}")
        if way and mac == "none":
            draft.steps = REFUSED
