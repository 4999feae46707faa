"""Generated chains, and what runtimes do with them."""

from __future__ import annotations

from typing import Any

import msgspec
from differ_world import Case, Step
from hypothesis import strategies as st

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
_ADD, _CHECK, _DEL = Step(command="ADD"), Step(command="CHECK"), Step(command="DEL")
_STATUS, _VERSION = Step(command="STATUS"), Step(command="VERSION")
_SECOND = Step(command="ADD", container="c2")
_REFUSED = (_ADD, _DEL, _DEL)

SCRIPTS: dict[str, tuple[Step, ...]] = {
    "life": (_VERSION, _ADD, _CHECK, _DEL, _DEL),
    "forgetful": (_ADD, Step(command="DEL", previous=False)),
    "never added": (_CHECK, _DEL, Step(command="DEL", namespace="", previous=False)),
    "added twice": (_ADD, _ADD, _CHECK, _DEL),
    "status": (_STATUS, _ADD, _STATUS, _DEL),
    "collected": (_ADD, _SECOND, Step(command="GC", freed=("c2",)), _CHECK, _DEL),
    "two pods": (_ADD, _SECOND, _DEL, Step(command="CHECK", container="c2")),
    "no namespace": (Step(command="ADD", namespace="missing"), Step(command="DEL", namespace="missing")),
    "address gone": (_ADD, Step(command="CHECK", damage="ip addr flush dev eth0"), _DEL),
    "link down": (_ADD, Step(command="CHECK", damage="ip link set eth0 down"), _DEL),
}

_V4 = {"subnet": "10.88.0.0/16"}
_V6 = {"subnet": "fd00:10:88::/64"}
_DEFAULTS = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def _ipam(dual: bool, routed: bool) -> dict[str, Any]:
    ranges = [[_V4], [_V6]] if dual else [[_V4]]
    routes = {"routes": _DEFAULTS[: 2 if dual else 1]} if routed else {}
    return {"type": "host-local", "dataDir": "DATA", "ranges": ranges, **routes}


@st.composite
def mains(draw: st.DrawFn) -> dict[str, Any]:
    """bridge or ptp with host-local."""
    ipam = _ipam(draw(st.booleans()), draw(st.booleans()))
    common = {"ipMasq": draw(st.booleans()), "ipam": ipam}
    if mtu := draw(st.sampled_from([0, 1400])):
        common["mtu"] = mtu
    if draw(st.integers(0, 3)) == 0:
        return {"type": "ptp", **common}
    gateway = draw(st.sampled_from([{}, {"isGateway": True}, {"isDefaultGateway": True, "isGateway": True}]))
    if "isDefaultGateway" in gateway:
        ipam.pop("routes", None)
    port = draw(st.sampled_from([{}, {"hairpinMode": True}, {"promiscMode": True}]))
    return {"type": "bridge", "bridge": "cni0", **common, **gateway, **port}


_TUNING = st.fixed_dictionaries(
    {"type": st.just("tuning"), "dataDir": st.just("DATA/tuning")},
    optional={
        "sysctl": st.sampled_from(
            [
                {"net.core.somaxconn": "500"},
                {"net.ipv4.conf.eth0.arp_filter": "1"},
                {"kernel.domainname": "x"},
            ]
        ),
        "mtu": st.just(1300),
        "mac": st.just("c2:11:22:33:44:55"),
        "promisc": st.booleans(),
        "allmulti": st.booleans(),
    },
)
_PORTMAP = st.fixed_dictionaries(
    {"type": st.just("portmap"), "capabilities": st.just({"portMappings": True})},
    optional={"snat": st.booleans(), "masqAll": st.booleans()},
)
_BANDWIDTH = st.just({"type": "bandwidth", "capabilities": {"bandwidth": True}})
_FIREWALL = st.just({"type": "firewall"})
_SBR = st.fixed_dictionaries({"type": st.just("sbr")}, optional={"table": st.just(300)})
#: what may come after a main plugin, in this order
FOLLOWERS = (_PORTMAP, _BANDWIDTH, _FIREWALL, _TUNING, _SBR)
_LIMITS = st.sampled_from(
    [
        {"ingressRate": 1000000, "ingressBurst": 800000},
        {"egressRate": 2000000, "egressBurst": 800000},
        {"ingressRate": 1000000, "ingressBurst": 800000, "egressRate": 2000000, "egressBurst": 800000},
        {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0},
        {"ingressRate": 1000000},
    ]
)
_MAPPINGS = st.sampled_from(
    [
        [],
        [{"hostPort": 8053, "containerPort": 53, "protocol": "udp"}],
        [{"hostPort": 8053, "containerPort": 53, "protocol": "udp", "hostIP": "198.51.100.2"}],
        [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        [{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}],
    ]
)


_MASTER = ["up0", "up0", "none0"]
#: those whose link stands in the pod alone: option → what it may be
INNER: dict[str, dict[str, list[Any]]] = {
    "macvlan": {
        "master": _MASTER,
        "mode": ["bridge", "private", "vepa", "passthru", "other"],
        "mtu": [1400, 9000],
        "mac": ["c2:11:22:33:44:66"],
        "bcqueuelen": [300],
    },
    "host-device": {"device": ["dev0", "dev0", "none0"]},
    "tap": {
        "mtu": [1450],
        "mac": ["c2:11:22:33:44:67"],
        "multiQueue": [True, False],
        "owner": [54321],
        "group": [54322],
    },
    "ipvlan": {"master": _MASTER, "mode": ["l2", "l3", "l3s", "other"], "mtu": [1400, 9000]},
    "vlan": {"master": _MASTER, "vlanId": [7, 0, 5000], "mtu": [1400, 9000]},
    "dummy": {},
}
DEVICE = ("ip link add dev0 type veth peer name dev1",)
HERE = ("macvlan", "host-device", "tap")  # what kernels without 802.1Q, VRF and dummies make, too


@st.composite
def inner_mains(draw: st.DrawFn, names: tuple[str, ...]) -> dict[str, Any]:
    """One of these names."""
    name = draw(st.sampled_from(names))
    ipam = {"ipam": _ipam(draw(st.booleans()), draw(st.booleans()))} if draw(st.integers(0, 3)) else {}
    conf: dict[str, Any] = {"type": name, **ipam}
    for key, values in INNER[name].items():
        if draw(st.booleans()):
            conf[key] = draw(st.sampled_from(values))
    return conf


def _steps(script: str, version: str, chained: list[dict[str, Any]]) -> tuple[Step, ...]:
    """Those of a script that version and chain have."""
    steps = SCRIPTS[script]
    if version != "1.1.0":  # that has no GC
        steps = tuple(msgspec.structs.replace(step, freed=()) for step in steps)
    if version == "0.3.1" or any(one["type"] == "sbr" for one in chained):
        # the reference's sbr checks nothing, and its main plugins look for the routes that it has moved
        steps = tuple(step for step in steps if step.command != "CHECK")
    return steps


@st.composite
def _after(
    draw: st.DrawFn, version: str, followers: tuple[st.SearchStrategy[Any], ...]
) -> list[dict[str, Any]]:
    """Some of these plugins, and of a firewall only what the reference's takes."""
    found = [draw(plugin) for plugin in followers if draw(st.booleans())]
    return [one for one in found if version != "0.3.1" or one["type"] != "firewall"]


@st.composite
def inner_cases(
    draw: st.DrawFn,
    names: tuple[str, ...] = HERE,
    followers: tuple[st.SearchStrategy[Any], ...] = (_TUNING,),
) -> Case:
    """One of them, perhaps with others after it."""
    version, script = draw(st.sampled_from(VERSIONS)), draw(st.sampled_from(sorted(SCRIPTS)))
    chained = draw(_after(version, followers))
    steps = _steps(script, version, chained)
    main = draw(inner_mains(names))
    if _SECOND in steps:
        main.pop("mac", None)  # no two links on one wire
    told: dict[str, Any] = {"bandwidth": draw(_LIMITS)}
    if _SECOND not in steps:
        told["portMappings"] = mappings = draw(_MAPPINGS)
        if mappings and "ipam" not in main:  # which ours refuses
            steps = tuple(step for step in steps if step.command != "CHECK")
    return Case(version=version, plugins=(main, *chained), steps=steps, before=DEVICE, capabilities=told)


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
    version = draw(st.sampled_from(VERSIONS[2:]))
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
    ipam = _ipam(draw(st.booleans()), True)
    main = {"type": "bridge", "bridge": "cni0", "isGateway": draw(st.booleans()), "ipam": ipam}
    for key, values in _VLANS.items():
        if draw(st.booleans()):
            main[key] = draw(st.sampled_from(values))
    return Case(version="1.1.0", plugins=(main,), steps=SCRIPTS[draw(st.sampled_from(["life", "two pods"]))])


@st.composite
def vrf_cases(draw: st.DrawFn) -> Case:
    """A VRF after a bridge or ptp, whose CHECK in the reference looks for routes that are in its table."""
    vrf = {"type": "vrf", "vrfname": "blue"} | draw(st.sampled_from([{}, {"table": 77}]))
    steps = SCRIPTS[draw(st.sampled_from(["life", "forgetful", "two pods", "added twice", "collected"]))]
    steps = tuple(step for step in steps if step.command != "CHECK")
    return Case(version="1.1.0", plugins=(draw(mains()), vrf), steps=steps)


@st.composite
def cases(draw: st.DrawFn, versions: tuple[str, ...] = VERSIONS) -> Case:
    """A main plugin and up to five after it."""
    version, script = draw(st.sampled_from(versions)), draw(st.sampled_from(sorted(SCRIPTS)))
    chained = draw(_after(version, FOLLOWERS[:-1]))
    if draw(st.integers(0, 2)) == 0:
        chained.append(draw(_SBR))
    steps = _steps(script, version, chained)
    mappings = [] if _SECOND in steps else draw(_MAPPINGS)
    return Case(
        version=version,
        plugins=(draw(mains()), *chained),
        steps=steps,
        capabilities={"portMappings": mappings, "bandwidth": draw(_LIMITS)},
    )


_DNS = {
    "nameservers": ["192.0.2.53", "2001:db8::53"],
    "domain": "example.test",
    "search": ["example.test"],
    "options": ["ndots:2"],
}
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


@st.composite
def asking(draw: st.DrawFn, some: st.SearchStrategy[Case]) -> Case:
    """The same cases with what is asked for more seldom: name servers, a bridge that is somebody's, addresses
    that are written down, or that a runtime asks for by one of three ways.

    What may be refused is deleted then, as runtimes do."""
    case = draw(some)
    main, told, arguments, before = dict(case.plugins[0]), dict(case.capabilities), "", case.before
    steps = case.steps
    if draw(st.booleans()):
        main["dns"] = _DNS
    if main["type"] == "bridge":
        main |= {key: True for key in _OF_BRIDGES if draw(st.integers(0, 2)) == 0}
        if steps != SCRIPTS["no namespace"] and draw(st.integers(0, 3)) == 0:
            before += _STANDING
            steps = steps if main.get("forceAddress") or not main.get("isGateway") else _REFUSED
    way = draw(st.sampled_from(["", "", "capability", "args", "CNI_ARGS"]))
    if "ipam" not in main or _SECOND in steps:
        way = ""
    elif draw(st.booleans()):
        routed = main["type"] == "ptp"  # which has no way but by gateways
        way = "" if routed else way
        addresses = [one for one in _ADDRESSES if "gateway" in one or not routed]
        routes = [one for one in _ROUTES if "gw" in one or "isDefaultGateway" not in main]
        routes = [one for one in routes if not (routed and "gw" in one)]  # which the reference's sbr fails on
        own = {"addresses": draw(_some(addresses)), "routes": draw(_some(routes))}
        main["ipam"] = {"type": "static", **own} | draw(st.sampled_from([{}, {"dns": _DNS}]))
    asked = draw(st.sampled_from(_ASKED))
    if way and asked in _ASKED[2:]:
        steps = _REFUSED
    if way == "capability":
        main["capabilities"], told["ips"] = {"ips": True}, asked
    elif way == "args":
        main["args"] = {"cni": {"ips": asked}}
    elif way == "CNI_ARGS":
        gateway = draw(st.sampled_from(["", ";GATEWAY=10.88.0.1"]))
        arguments = f"IgnoreUnknown=1;IP={','.join(asked)}{gateway}"
    return msgspec.structs.replace(
        case,
        plugins=(main, *case.plugins[1:]),
        steps=steps,
        capabilities=told,
        arguments=arguments,
        before=before,
    )
