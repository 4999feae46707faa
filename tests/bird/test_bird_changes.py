"""What a change of the configuration does to sessions: nothing to others, to its own no more than it must.
A real BIRD, and a real FRR that speaks with it over both families."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bird_pair import FAR6, NEAR6, Pair, wait
from frr import frr
from rack import OWN, POOL, QUIET, router, told, tor

from podway.kernel import namespaces
from podway.model.bgp import Speaker

pytestmark = pytest.mark.kernel

OTHER = ("BGPPeer", "other", {"asNumber": 65001, "peerAddress": FAR6})
FRR = router(f"neighbor {NEAR6} remote-as 64512") + (
    f" address-family ipv6 unicast\n  neighbor {NEAR6} activate\n exit-address-family\n"
)
EDGE = {"exports": [{"action": "accept", "prefixes": [{"cidr": POOL, "min": 26, "max": 26}], "prepend": 2}]}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both sessions are up, by ``told(tor(), OTHER)``."""
    near = namespaces.create()
    with namespaces.entered(near):
        pair = Pair(Path(tmp_path_factory.mktemp("pair")), near)
        try:
            with frr(pair) as peer:
                peer.start(FRR)
                pair.start(told(tor(), OTHER))
                yield pair
        finally:
            pair.close()


def up_since(pair: Pair) -> dict[str, float]:
    """Session → since when it is established; only those that are."""
    return {one.name: one.since for one in pair.do(pair.a.client.sessions()) if one.established}


def told_again(pair: Pair, speaker: Speaker) -> dict[str, float]:
    pair.do(pair.a.tell(pair.text(speaker, pair.a)))
    before: dict[str, float] | None = None
    while (found := up_since(pair)) != before:  # one that is to end ends after BIRD has answered
        before = found
        time.sleep(0.4)
    return found


@pytest.fixture
def before(both: Pair) -> dict[str, float]:
    told_again(both, told(tor(), OTHER))
    return wait(lambda: len(found := up_since(both)) == 2 and found)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "spec",
    [
        {"password": "other"},
        {"asNumber": 65009},
        {"hold": 30, "keepalive": 10},
        {"bfd": True},
        {"multihop": 2},
        {"ttlSecurity": True},
        {"localAs": 64999},
        {"gracefulRestart": False},
        {"passive": True},
        {"port": 1790},
        {"maxPrefixes": 5},
        {"filters": ["none"]},
        {"nextHopSelf": True},
        {"peerAddress": "192.0.2.9"},
        {"nodeSelector": "rack=z"},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_a_change_of_one_peer_leaves_the_other_alone(
    both: Pair, before: dict[str, float], spec: dict[str, Any]
) -> None:
    none = ("BGPFilter", "none", {"exports": [{"action": "reject"}]})
    other = next(name for name in before if name.startswith("p_other"))
    changed = told(tor(**spec), OTHER, none, notes="nodeSelector" in spec)
    found = told_again(both, changed)
    assert found.get(other) == before[other]


def test_next_hops_of_the_other_family_for_one_peer(both: Pair, before: dict[str, float]) -> None:
    kind, name, spec = OTHER
    found = told_again(both, told(tor(), (kind, name, spec | {"extendedNextHop": True})))
    stayed = dict(found.items() & before.items())  # the other may be up anew by now
    assert stayed == {one: since for one, since in before.items() if one.startswith("p_tor")}


CHANGES: dict[str, Any] = {
    "a filter": lambda: told(tor(filters=["edge"]), OTHER, ("BGPFilter", "edge", EDGE)),
    "a limit": lambda: told(tor(maxPrefixes=500), OTHER),
    "an advertisement": lambda: told(tor(), OTHER, ("BGPAdvertisement", "x", {"prefixes": ["10.96.0.0/16"]})),
    "a third peer": lambda: told(
        tor(), OTHER, ("BGPPeer", "third", {"asNumber": 1, "peerAddress": "192.0.2.8"})
    ),
    "a block": lambda: more(own=(OWN, "10.244.5.0/26")),
    "a borrowed address": lambda: more(own=(OWN, "10.244.9.7/32"), lent=("10.244.1.9/32",)),
    "a network's pool": lambda: more(pools=(POOL, "10.50.0.0/16")),
    "peers of a range": lambda: told(
        tor(), OTHER, ("BGPPeer", "t", {"asNumber": 1, "peerRange": "198.51.100.0/24"})
    ),
    "the nodes' failover": lambda: told(
        tor(), OTHER, ("BGPConfiguration", "default", {**QUIET, "failover": "hitless"})
    ),
    "an uplink": lambda: more(uplinks=("up0", "up1")),
    "a drain": lambda: more(draining=True),
    "reflecting": lambda: more(reflector=True),
    "the first BFD of all": lambda: told(
        tor(), OTHER, ("BGPPeer", "t", {"asNumber": 1, "peerAddress": "192.0.2.8", "bfd": True})
    ),
}


def more(**changed: Any) -> Speaker:
    return msgspec.structs.replace(told(tor(), OTHER), **changed)


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_no_matter_of_a_session_ends_none(both: Pair, before: dict[str, float], what: str) -> None:
    """Routes come and go, and preferences change, in sessions that stay."""
    assert told_again(both, CHANGES[what]()) == before
