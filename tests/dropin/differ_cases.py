"""Generated chains, and what runtimes do with them."""

from __future__ import annotations

from typing import Any

import msgspec
from differ_options import FOLLOWERS, LIMITS, MAPPINGS, OTHER_MAC, REPEATED, SBR, TAP_MAC, repeats, tunings
from differ_world import RESOLV_CONF, Case, Step
from hypothesis import strategies as st

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
OLD = VERSIONS[:4]  # without CHECK
_ADD, _CHECK, _DEL = Step(command="ADD"), Step(command="CHECK"), Step(command="DEL")
_STATUS, _VERSION = Step(command="STATUS"), Step(command="VERSION")
SECOND = Step(command="ADD", container="c2")
REFUSED = (_ADD, _DEL, _DEL)

SCRIPTS: dict[str, tuple[Step, ...]] = {
    "life": (_VERSION, _ADD, _CHECK, _DEL, _DEL),
    "forgetful": (_ADD, Step(command="DEL", previous=False)),
    "never added": (_CHECK, _DEL, Step(command="DEL", namespace="", previous=False)),
    "added twice": (_ADD, _ADD, _CHECK, _DEL),
    "status": (_STATUS, _ADD, _STATUS, _DEL),
    "collected": (_ADD, SECOND, Step(command="GC", freed=("c2",)), _CHECK, _DEL),
    "two pods": (_ADD, SECOND, _DEL, Step(command="CHECK", container="c2")),
    "no namespace": (Step(command="ADD", namespace="missing"), Step(command="DEL", namespace="missing")),
}
_OF_POD = {
    "address gone": "ip addr flush dev eth0",
    "link down": "ip link set eth0 down",
    "no default route": "ip route del default",
    "another route": "ip route add 192.0.2.0/24 dev eth0",
    "another address": "ip addr add 10.88.44.44/16 dev eth0",
    "another MAC": "ip link set eth0 address c2:11:22:33:44:99",
    "another MTU": "ip link set eth0 mtu 1290",
    "another sysctl": "sysctl -qw net.ipv4.conf.eth0.arp_filter=0 net.core.somaxconn=400",
}
_VETHS = "for one in $(ip -br link show type veth | grep -o '^veth[0-9a-f]*'); do"
_OF_NODE = {
    "link gone": "ip -n c1 link del eth0",  # whose other end is the node's
    "bridge down": "ip link set cni0 down",
    "bridge without addresses": "ip addr flush dev cni0",
    "port down": f"{_VETHS} ip link set $one down; done",
    "port gone": f"{_VETHS} ip link del $one; done",
    "port without bridge": f"{_VETHS} ip link set $one nomaster; done",
    "no limits": f"{_VETHS} tc qdisc del dev $one root; done",
    "no rules": "nft flush ruleset",
    "no route to the pod": "ip route flush root 10.88.0.0/16",
    "no forwarding": "sysctl -qw net.ipv4.ip_forward=0",
}
_DAMAGES = _OF_POD | {key: f"node: {command}" for key, command in _OF_NODE.items()}
SCRIPTS |= {
    key: (_ADD, Step(command="CHECK", damage=damage), _CHECK, _DEL) for key, damage in _DAMAGES.items()
}

_V4 = {"subnet": "10.88.0.0/16"}
_V6 = {"subnet": "fd00:10:88::/64"}
_DEFAULTS = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


_FEW4 = {"subnet": "10.88.0.0/16", "rangeStart": "10.88.1.1", "rangeEnd": "10.88.1.9"}
_BEYOND = {"subnet": "10.88.0.0/16", "rangeStart": "10.89.1.1"}


def _ipam(draw: st.DrawFn) -> dict[str, Any]:
    """host-local with one family or both, mostly of whole subnets."""
    dual = draw(st.booleans())
    four = draw(st.sampled_from([_V4, _V4, _V4, _V4, _FEW4, _FEW4, _BEYOND, _V4 | {"gateway": "10.88.0.77"}]))
    found: dict[str, Any] = {"type": "host-local", "dataDir": "DATA"}
    found["ranges"] = [[four], [_V6]] if dual else [[four]]
    if draw(st.booleans()):
        found["routes"] = _DEFAULTS[: 2 if dual else 1]
    if draw(st.integers(0, 4)) == 0:
        found["resolvConf"] = RESOLV_CONF
    return found


@st.composite
def mains(draw: st.DrawFn) -> dict[str, Any]:
    """bridge or ptp with host-local; seldom a bridge without addresses."""
    ipam = _ipam(draw)
    common: dict[str, Any] = {"ipMasq": draw(st.booleans()), "ipam": ipam}
    if mtu := draw(st.sampled_from([0, 1400])):
        common["mtu"] = mtu
    if backend := draw(st.sampled_from(["", "", "iptables", "nftables"])):
        common["ipMasqBackend"] = backend
    if draw(st.integers(0, 3)) == 0:
        return {"type": "ptp", **common}
    gateway = draw(st.sampled_from([{}, {"isGateway": True}, {"isDefaultGateway": True, "isGateway": True}]))
    if "isDefaultGateway" in gateway:
        ipam.pop("routes", None)
    port = draw(st.sampled_from([{}, {"hairpinMode": True}, {"promiscMode": True}]))
    if draw(st.integers(0, 11)) == 0:
        bare = {key: value for key, value in common.items() if key != "ipam"}
        return {"type": "bridge", "bridge": "cni0", **bare, **port}
    return {"type": "bridge", "bridge": "cni0", **common, **gateway, **port}


_MASTER = ["up0", "up0", "none0"]
_DEVICE_MAC = "c2:11:22:33:44:77"
#: those whose link stands in the pod alone: option → what it may be
INNER: dict[str, dict[str, list[Any]]] = {
    "macvlan": {
        "master": _MASTER,
        "mode": ["bridge", "private", "vepa", "passthru", "other"],
        "mtu": [1400, 9000],
        "mac": ["c2:11:22:33:44:66"],
        "bcqueuelen": [300],
    },
    "host-device": {"device": ["dev0", "dev0", "none0"], "hwaddr": [_DEVICE_MAC, _DEVICE_MAC, OTHER_MAC]},
    "tap": {
        "mtu": [1450],
        "mac": [TAP_MAC],
        "multiQueue": [True, False],
        "owner": [54321],
        "group": [54322],
    },
    "ipvlan": {"master": _MASTER, "mode": ["l2", "l3", "l3s", "other"], "mtu": [1400, 9000]},
    "vlan": {"master": _MASTER, "vlanId": [7, 0, 5000], "mtu": [1400, 9000]},
    "dummy": {},
}
DEVICE = (f"ip link add dev0 address {_DEVICE_MAC} type veth peer name dev1",)
_STACKED = ("macvlan", "ipvlan", "vlan")
_LOWER = (
    "ip link add low0 type veth peer name low1",
    "ip link set low0 up",
    "ip link set low1 up",
)
HERE = ("macvlan", "host-device", "tap")  # what kernels without 802.1Q, VRF and dummies make, too


@st.composite
def inner_mains(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    """One of these names."""
    name = draw(st.sampled_from(names))
    ipam = {"ipam": _ipam(draw)} if draw(st.integers(0, 3)) else {}
    conf: dict[str, Any] = {"type": name, **ipam}
    for key, values in INNER[name].items():
        if draw(st.booleans()):
            conf[key] = draw(st.sampled_from(values))
    if name in _STACKED and draw(st.integers(0, 3)) == 0:
        conf |= {"linkInContainer": True, "master": draw(st.sampled_from(["low0", "low0", "up0"]))}
    return conf


def _lower(main: dict[str, Any]) -> tuple[str, ...]:
    """What a link in a pod needs that stands on another one there."""
    return _LOWER if main.get("linkInContainer") else ()


_SINCE = {"firewall": "0.4.0", "bandwidth": "0.3.0", "vrf": "0.3.1"}


def fitting(version: str, main: dict[str, Any]) -> dict[str, Any]:
    """Without an IPv6 route, nor one of IPv4 beside addresses of IPv6 alone, where a result has routes of
    addresses alone, so that the reference loses them between its plugins."""
    ipam = main.get("ipam", {})
    if ipam.get("routes") and version in VERSIONS[:2]:
        written = [one["address"] for one in ipam.get("addresses", ())]
        six_alone = bool(written) and all(":" in one for one in written)
        own = [one for one in ipam["routes"] if one["dst"] != "::/0" and not six_alone]
        return main | {"ipam": ipam | {"routes": own}}
    return main


def _unchecked(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.command != "CHECK")


def _refused(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Of a chain that ours refuses in its midst and the reference doesn't: no CHECK, no pod added twice."""
    kept = _unchecked(steps)
    return tuple(one for at, one in enumerate(kept) if one.command != "ADD" or one not in kept[:at])


def _is_silent(mappings: list[Any], main: dict[str, Any], chained: list[dict[str, Any]]) -> bool:
    """Whether ports are published of a pod without addresses."""
    return bool(mappings) and "ipam" not in main and any(one["type"] == "portmap" for one in chained)


def _steps(script: str, version: str, chained: list[dict[str, Any]]) -> tuple[Step, ...]:
    """Those of a script that version and chain have."""
    steps = SCRIPTS[script]
    if version != "1.1.0":  # that has no GC
        steps = tuple(msgspec.structs.replace(step, freed=()) for step in steps)
    if version in OLD or any(one["type"] == "sbr" for one in chained):
        # the reference's sbr checks nothing, and its main plugins look for the routes that it has moved
        steps = _unchecked(steps)
    return steps


@st.composite
def _after(
    draw: st.DrawFn, version: str, followers: tuple[st.SearchStrategy[Any], ...]
) -> list[dict[str, Any]]:
    """Some of these plugins, seldom one of them twice, of those that the reference has for the version."""
    found = [draw(plugin) for plugin in followers if draw(st.booleans())]
    known = [one for one in found if one["type"] in REPEATED]
    if known and draw(st.integers(0, 3)) == 0:
        found.append(draw(repeats(draw(st.sampled_from(known)))))
    return [one for one in found if version >= _SINCE.get(one["type"], "")]


@st.composite
def inner_cases(
    draw: st.DrawFn,
    names: tuple[str, ...] = HERE,
    followers: tuple[st.SearchStrategy[Any], ...] = (tunings(),),
) -> Case:
    """One of them, perhaps with others after it."""
    version, script = draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(sorted(SCRIPTS)))
    chained = draw(_after(version, followers))
    steps = _steps(script, version, chained)
    main = fitting(version, draw(inner_mains(names)))
    if SECOND in steps:
        main.pop("mac", None)  # no two links on one wire
    told: dict[str, Any] = {"bandwidth": draw(LIMITS)}
    if SECOND not in steps:
        told["portMappings"] = mappings = draw(MAPPINGS)
        if _is_silent(mappings, main, chained):
            steps = _refused(steps)
    if any(one.get("ingressPolicy", "open") != "open" for one in chained):
        steps = _refused(steps)
    return Case(
        version=version,
        plugins=(main, *chained),
        steps=steps,
        before=DEVICE,
        within=_lower(main),
        capabilities=told,
    )


@st.composite
def dhcp_cases(draw: st.DrawFn) -> Case:
    """A link on the wire with a DHCP server, by whose lease it has its address."""
    ipam: dict[str, Any] = {"type": "dhcp"}
    options: dict[str, list[Any]] = {
        "request": [[{"option": "121"}], [{"option": "subnet-mask", "skipDefault": True}]],
        "provide": [[{"option": "host-name", "value": "one"}], [{"option": "60", "value": "shop"}]],
        "priority": [77],
    }
    for key, values in options.items():
        if draw(st.booleans()):
            ipam[key] = draw(st.sampled_from(values))
    version = draw(st.sampled_from(VERSIONS[-2:]))
    script = draw(st.sampled_from(["life", "forgetful", "never added", "two pods", "link down"]))
    return Case(
        version=version, plugins=({"type": "macvlan", "master": "up0", "ipam": ipam},), steps=SCRIPTS[script]
    )


_VLANS: dict[str, list[Any]] = {
    "vlan": [7, 7, 4095],
    "vlanTrunk": [[{"minID": 10, "maxID": 12}], [{"id": 20}], [{"minID": 12, "maxID": 10}]],
    "preserveDefaultVlan": [True, False],
}


@st.composite
def vlan_cases(draw: st.DrawFn) -> Case:
    """A bridge that filters VLANs."""
    ipam = _ipam(draw)
    main = {"type": "bridge", "bridge": "cni0", "isGateway": draw(st.booleans()), "ipam": ipam}
    for key, values in _VLANS.items():
        if draw(st.booleans()):
            main[key] = draw(st.sampled_from(values))
    return Case(version="1.1.0", plugins=(main,), steps=SCRIPTS[draw(st.sampled_from(["life", "two pods"]))])


@st.composite
def vrf_cases(draw: st.DrawFn) -> Case:
    """A VRF after a link of any kind, whose CHECK in the reference looks for routes that are in its table."""
    vrf = {"type": "vrf", "vrfname": "blue"} | draw(st.sampled_from([{}, {"table": 77}]))
    main = draw(mains() | inner_mains(("macvlan", "ipvlan")))
    # after a ptp the reference's may have failed (vrf-in-time), and an ADD after that is no second one
    names = ["life", "forgetful", "two pods", "collected", *["added twice"] * (main["type"] != "ptp")]
    steps = _unchecked(SCRIPTS[draw(st.sampled_from(names))])
    if SECOND in steps:
        main.pop("mac", None)
    return Case(version="1.1.0", plugins=(main, vrf), steps=steps, within=_lower(main))


#: what the firewall plugin is there for
_WALL = ("iptables -P FORWARD DROP", "ip6tables -P FORWARD DROP")


@st.composite
def cases(draw: st.DrawFn, versions: tuple[str, ...] = VERSIONS) -> Case:
    """A main plugin and up to five after it."""
    version, script = draw(st.sampled_from(versions)), draw(st.sampled_from(sorted(SCRIPTS)))
    chained = draw(_after(version, FOLLOWERS[:-1]))
    if draw(st.integers(0, 2)) == 0:
        chained.append(draw(SBR))
    steps = _steps(script, version, chained)
    mappings = [] if SECOND in steps else draw(MAPPINGS)
    walled = any(one["type"] == "firewall" for one in chained) and draw(st.booleans())
    main = fitting(version, draw(mains()))
    if _is_silent(mappings, main, chained):
        steps = _refused(steps)
    return Case(
        version=version,
        plugins=(main, *chained),
        steps=steps,
        before=_WALL if walled else (),
        capabilities={"portMappings": mappings, "bandwidth": draw(LIMITS)},
    )


_OF_LO = {
    "life": SCRIPTS["life"],
    "forgetful": SCRIPTS["forgetful"],
    "never added": SCRIPTS["never added"],
    "added twice": SCRIPTS["added twice"],
    "two pods": SCRIPTS["two pods"],
    "no namespace": SCRIPTS["no namespace"],
    "down": (_ADD, Step(command="CHECK", damage="ip link set lo down"), _DEL),
}
_STRANGE = ("ip link set lo down", "ip addr add 192.0.2.1/32 dev lo")  # both refuse it
_LO = [
    (),
    ("ip link set lo down",),
    _STRANGE,
    ("ip addr add 127.0.0.2/8 dev lo",),
    ("ip addr add 2001:db8::1/128 dev lo nodad",),
    ("sysctl -qw net.ipv6.conf.all.disable_ipv6=1", "ip link set lo down"),
]


@st.composite
def loopback_cases(draw: st.DrawFn) -> Case:
    """loopback alone, as runtimes call it, or after another."""
    version, script = draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(sorted(_OF_LO)))
    plugins: tuple[dict[str, Any], ...] = ({"type": "loopback"},)
    alone = draw(st.integers(0, 2)) > 0
    if not alone:
        plugins = (fitting(version, draw(mains())), *plugins)
    within = draw(st.sampled_from(_LO))
    steps = _OF_LO[script]
    if version in OLD or within == _STRANGE:
        steps = _unchecked(steps)
    return Case(
        version=version,
        plugins=plugins,
        steps=steps,
        within=within,
        ifname="lo" if alone else "eth0",
    )
