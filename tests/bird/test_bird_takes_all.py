"""Whatever passes as a document of BGP, BIRD takes: one peer that it refused would hold up all others."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from podway.bird.render import render
from podway.model.documents import InvalidDocument, decode
from podway.model.resources import Bgp, BgpResource, Block, BlockSpec, Node, NodeFacts, NodeSpec, Uplink
from podway.plan.bgp import Cluster, speaker

FACTS = NodeFacts(name="a", uplinks=(Uplink(name="up0", mtu=1500, addresses=("192.0.2.1/24",)),))
NODES = {
    name: Node(name=name, spec=NodeSpec(addresses=(f"192.0.2.{n}/24", f"2001:db8::{n}/64")))
    for n, name in enumerate("abc", 1)
}
BLOCK = Block(cidr="10.244.1.0/26", spec=BlockSpec(network="pods", node="a", attach="routed"))

systems = st.sampled_from([1, 64512, 65001, 65534, 65536, 4200000001, 4294967294])
ports = st.sampled_from([1, 179, 1790, 65535])
holds, keepalives = st.sampled_from([3, 9, 90, 65535]), st.sampled_from([1, 3, 4, 30, 32767])
flags = st.booleans()
addresses = st.sampled_from(
    [
        "",
        "192.0.2.9",
        "198.51.100.9",
        "2001:db8::9",
        "fe80::9",
        "10.244.1.5",
        "0.0.0.0",
        "240.0.0.1",
        "::ffff:1.2.3.4",
    ]
)
ranges = st.sampled_from(
    ["", "192.0.2.64/26", "198.51.100.9/32", "0.0.0.0/0", "2001:db8:1::/64", "fe80::/64", "::/0"]
)
texts = st.text(st.sampled_from("aZ09 ;{}#/*\\'$%!~"), max_size=12)
communities = st.sampled_from(["0:0", "65535:65281", "64512:7", "1:2:3", "4294967295:0:1", "00012:7"])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


peers = st.builds(
    lambda spec, number, whom: spec | whom | {"asNumber": number},
    some(
        port=ports,
        localAs=systems,
        password=texts,
        multihop=st.sampled_from([0, 1, 2, 255]),
        ttlSecurity=flags,
        hold=holds,
        keepalive=keepalives,
        bfd=flags,
        nextHopSelf=flags,
        extendedNextHop=flags,
        gracefulRestart=flags,
        maxPrefixes=st.sampled_from([0, 1, 10_000_000]),
        passive=flags,
        filters=st.sampled_from([[], ["f"], ["none"], ["f", "f"]]),
    ),
    systems,
    st.one_of(
        addresses.map(lambda text: {"peerAddress": text}), ranges.map(lambda text: {"peerRange": text})
    ),
)
prefixes = st.lists(
    st.sampled_from(
        [
            {"cidr": "0.0.0.0/0"},
            {"cidr": "0.0.0.0/0", "max": 32},
            {"cidr": "10.0.0.0/8", "min": 8, "max": 24},
            {"cidr": "::/0", "min": 0, "max": 128},
            {"cidr": "2001:db8::/32"},
            {"cidr": "192.0.2.7/32"},
        ]
    ),
    max_size=3,
)
rules = st.lists(
    st.builds(
        lambda spec, action: spec | {"action": action},
        some(
            prefixes=prefixes,
            communities=st.lists(communities, max_size=2),
            asPath=systems,
            setLocalPreference=st.sampled_from([0, 100, 4294967295]),
            prepend=st.sampled_from([0, 1, 16]),
            addCommunities=st.lists(communities, max_size=2),
        ),
        st.sampled_from(["accept", "reject"]),
    ),
    max_size=2,
)
configurations = some(
    asNumber=systems,
    port=ports,
    hold=holds,
    keepalive=keepalives,
    restartTime=st.sampled_from([1, 120, 4095]),
    listen=st.sampled_from(["all", "node"]),
    failover=st.sampled_from(["fast", "hitless", "both"]),
    mesh=st.sampled_from(["on", "off", "auto"]),
)
advertised = st.lists(
    st.sampled_from(["10.96.0.0/16", "198.51.100.7/32", "fd00:96::/112", "10.244.1.0/26", "10.244.1.7/32"]),
    min_size=1,
    max_size=3,
)


def decoded(kind: str, name: str, spec: dict[str, Any]) -> Any:
    """Its spec, or None where it is refused."""
    document = {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    try:
        value = decode(document)
    except InvalidDocument:
        return None
    assert isinstance(value, BgpResource)
    return value.spec


@settings(max_examples=80)
@given(configurations, st.lists(peers, min_size=1, max_size=3), rules, rules, advertised)
def test_what_is_accepted_bird_takes(
    configuration: dict[str, Any],
    several: list[dict[str, Any]],
    imports: list[dict[str, Any]],
    exports: list[dict[str, Any]],
    prefixes: list[str],
) -> None:
    known = {f"p{n}": decoded("BGPPeer", f"p{n}", spec) for n, spec in enumerate(several)}
    rules_ = decoded("BGPFilter", "f", {"imports": imports, "exports": exports})
    services = decoded("BGPAdvertisement", "s", {"prefixes": prefixes})
    more = (
        {"configuration": found} if (found := decoded("BGPConfiguration", "default", configuration)) else {}
    )
    bgp = Bgp(
        peers={name: spec for name, spec in known.items() if spec is not None},
        filters={"f": rules_} if rules_ is not None else {},
        advertisements={"s": services} if services is not None else {},
        **more,
    )
    told = speaker(Cluster(FACTS, NODES, (BLOCK,), {"pods": ("10.244.0.0/16", "fd00:10:244::/48")}, bgp))
    assert told.speaker is not None
    event(f"{len(told.speaker.sessions)} sessions")
    assert all(2 * one.keepalive <= one.hold for one in told.speaker.sessions)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "bird.conf"
        file.write_text(render(told.speaker, f"{place}/log"))
        done = subprocess.run(["bird", "-p", "-c", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), (done.stderr, several)
