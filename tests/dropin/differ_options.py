"""What may stand in the configurations of plugins that come after a main one, and what runtimes tell them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MAC, OTHER_MAC, ANOTHER_MAC = "c2:11:22:33:44:55", "c2:11:22:33:44:88", "c2:11:22:33:44:aa"
TAP_MAC = "c2:11:22:33:44:67"
_SPELLED = {"net/ipv4/conf/IFNAME/arp_filter": "1"}
_SYSCTLS = [
    {"net.core.somaxconn": "500"},
    {"net.ipv4.conf.eth0.arp_filter": "1"},
    _SPELLED,
    {"kernel.domainname": "x"},
]
_TUNED = st.fixed_dictionaries(
    {"type": st.just("tuning"), "dataDir": st.just("DATA/tuning")},
    optional={
        "sysctl": st.sampled_from(_SYSCTLS),
        "mtu": st.just(1300),
        "mac": st.just(MAC),
        "promisc": st.booleans(),
        "allmulti": st.booleans(),
        "txQLen": st.sampled_from([500, 0]),
    },
)
_TOLD = st.fixed_dictionaries(
    {},
    optional={
        "sysctl": st.just({"net.ipv4.conf.eth0.arp_filter": "0", "net.core.somaxconn": "600"}),
        "mtu": st.just(1290),
        "mac": st.sampled_from([OTHER_MAC, OTHER_MAC, "none"]),
        "promisc": st.booleans(),
        "allmulti": st.booleans(),
        "txQLen": st.just(700),
    },
)


@st.composite
def tunings(draw: st.DrawFn) -> dict[str, Any]:
    """Settings of the configuration's own and of args.cni; the capability ``mac``."""
    found = draw(_TUNED)
    if draw(st.integers(0, 2)) == 0:
        told = draw(_TOLD)
        # the reference's ends in a panic, or takes now the one, now the other of two spellings
        if found.get("sysctl") in (None, _SPELLED):
            told.pop("sysctl", None)
        found["args"] = {"cni": told}
    if draw(st.booleans()):
        found["capabilities"] = {"mac": True}
    return found


#: of each backend: what a packet from outside meets, and what it doesn't; the last is of another backend
_CONDITIONS: dict[str, dict[str, list[list[str]]]] = {
    "iptables": {
        "conditionsV4": [
            ["-s", "198.51.100.0/24"],
            ["!", "-s", "198.51.100.1"],
            ["-i", "up0"],
            ["ip saddr", "::1"],
        ],
        "conditionsV6": [["-s", "fd00:51::/64"], ["!", "-d", "fd00:51::2"], ["!", "-i", "up+"]],
    },
    "nftables": {
        "conditionsV4": [["ip saddr 198.51.100.0/24"], ["ip daddr != 198.51.100.2"], ["-s", "198.51.100.1"]],
        "conditionsV6": [["ip6 saddr fd00:51::/64"], ['iifname "up0"']],
    },
}


@st.composite
def portmaps(draw: st.DrawFn) -> dict[str, Any]:
    """With either backend, or none said; conditions mostly of its own words. No ``masqAll`` for nftables,
    where the reference forgets it (test_dropin_masquerade.py)."""
    found = draw(
        st.fixed_dictionaries(
            {"type": st.just("portmap"), "capabilities": st.just({"portMappings": True})},
            optional={
                "snat": st.booleans(),
                "masqAll": st.booleans(),
                "backend": st.sampled_from(["iptables", "nftables", "nftables"]),
                "markMasqBit": st.sampled_from([5, 5, 40]),
            },
        )
    )
    if found.get("backend") == "nftables":
        found.pop("masqAll", None)
    if draw(st.integers(0, 2)) == 0:
        for key, values in _CONDITIONS[found.get("backend", "iptables")].items():
            if draw(st.booleans()):
                found[key] = draw(st.sampled_from(values))
    return found


LIMITS = st.sampled_from(
    [
        {"ingressRate": 1000000, "ingressBurst": 800000},
        {"egressRate": 2000000, "egressBurst": 800000},
        {"ingressRate": 1000000, "ingressBurst": 800000, "egressRate": 2000000, "egressBurst": 800000},
        {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0},
        {"ingressRate": 1000000},
    ]
)
_NO_LIMIT: dict[str, int] = {}
BANDWIDTH = st.builds(
    lambda own: {"type": "bandwidth", "capabilities": {"bandwidth": True}, **own}, st.just(_NO_LIMIT) | LIMITS
)
FIREWALL = st.fixed_dictionaries(
    {"type": st.just("firewall")},
    optional={
        "backend": st.just("iptables"),
        "ingressPolicy": st.sampled_from(["open", "same-bridge", "isolated", "other"]),
        "iptablesAdminChainName": st.just("OURS-FIRST"),
        "firewalldZone": st.just("public"),
    },
)
SBR = st.fixed_dictionaries({"type": st.just("sbr")}, optional={"table": st.just(300)})
REPEATED = {"portmap": portmaps(), "bandwidth": BANDWIDTH, "firewall": FIREWALL, "tuning": tunings()}


@st.composite
def repeats(draw: st.DrawFn, first: dict[str, Any]) -> dict[str, Any]:
    """The same plugin once more: a tuning that sets what the first doesn't, since the reference's CHECK of
    the first looks for its own values whatever came after; a portmap without nftables' conditions, which
    replace those of every other there."""
    found: dict[str, Any] = draw(REPEATED[first["type"]])
    if found.get("backend") == "nftables":
        found = {key: value for key, value in found.items() if not key.startswith("conditions")}
    if found["type"] == "tuning":
        told = first | first.get("args", {}).get("cni", {})
        new = {key: value for key, value in found.items() if key not in (*told, "args", "capabilities")}
        found = {"type": "tuning", "dataDir": found["dataDir"], **new, "promisc": told.get("promisc", False)}
    return found


#: what may come after a main plugin, in this order
FOLLOWERS = (portmaps(), BANDWIDTH, FIREWALL, tunings(), SBR)

_UDP = {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}
_TCP = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
MAPPINGS = st.sampled_from(
    [
        [],
        [_UDP],
        [_UDP, _TCP],
        [_UDP | {"hostIP": "198.51.100.2"}],
        [_UDP | {"hostIP": "fd00:51::2"}],
        [_TCP | {"hostIP": "0.0.0.0"}, _UDP | {"hostIP": "::"}],
        [_TCP | {"hostIP": "127.0.0.1"}],
        [{"hostPort": 8036, "containerPort": 36, "protocol": "sctp"}],
        [_TCP | {"hostPort": 0}],
    ]
)
