"""Which lease is this node's: it converges from anything, never takes somebody else's, and mends."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from podway.ipam.flannel import Drop, Held, Me, Take, Write, next_action
from podway.model.flannel import LEASE_SECONDS, Config, Lease, decode_config
from podway.model.resources import Network, NetworkSpec, Pool

NETWORK = Network(
    name="pods",
    spec=NetworkSpec(pools=(Pool(cidr="10.244.0.0/20"),), transport="vxlan", interop="flannel-etcd"),
)
CONFIG = decode_config(json.dumps({"Network": "10.244.0.0/20", "Backend": {"Type": "vxlan"}}).encode())
ME = Me("a", {4: "192.0.2.1"}, {4: "02:00:00:00:00:01"})


def lease(third: int, address: str = "192.0.2.9", mac: str = "0e:00:00:00:00:09") -> Lease:
    return Lease(subnets={4: f"10.244.{third}.0/24"}, addresses={4: address}, macs={4: mac})


def settle(
    found: dict[str, Held], blocks: list[str], mend: bool = False, me: Me = ME, config: Config = CONFIG
) -> tuple[dict[str, Held], list[object]]:
    """Carry out what is asked for until nothing is: the leases then, and what was done."""
    found, done = dict(found), []
    for _ in range(20):
        action = next_action(NETWORK, config, found, blocks, blocks, me, mend)
        done.append(action)
        if action is None or isinstance(action, str):
            return found, done
        key = action.lease.key
        if isinstance(action, Drop):
            del found[key]
            mend = True
        else:
            assert isinstance(action, Write) == (key in found)
            found[key] = Held(action.lease, "new")
            mend = mend and not isinstance(action, Write)
    raise AssertionError(done)


def mine(found: dict[str, Held]) -> list[Lease]:
    return [held.lease for held in found.values() if ME.has(held.lease)]


def test_a_new_node_takes_one_free_lease() -> None:
    """One block, with its address and the MAC of its VTEP, and nothing of others' is touched."""
    others = {
        lease(n).key: Held(lease(n, f"192.0.2.{n}", f"0e:00:00:00:00:{n:02x}"), "1") for n in range(2, 9)
    }
    found, done = settle(others, [])
    (own,) = mine(found)
    assert own.addresses == {4: "192.0.2.1"} and own.macs == ME.macs
    assert [type(one) for one in done] == [Take, type(None)]
    assert {key: found[key] for key in others} == others


def test_what_it_already_has_is_kept() -> None:
    """No write at all when all is so; one when half of the life is gone, or the address changed."""
    own = Held(lease(3, "192.0.2.1", ME.macs[4]), "1")
    assert settle({own.lease.key: own}, ["10.244.3.0/24"])[1] == [None]
    old = Held(own.lease, "1", LEASE_SECONDS / 3)
    assert isinstance(settle({own.lease.key: old}, [])[1][0], Write)
    moved = Me("a", {4: "192.0.2.77"}, ME.macs)
    found, _ = settle({own.lease.key: own}, [], me=moved)
    assert found[own.lease.key].lease.addresses == {4: "192.0.2.77"}


def test_a_block_leased_to_another_is_named_not_taken() -> None:
    """The stored block of this node is somebody else's lease: the conflict is told, nothing is written."""
    other = Held(lease(3), "1")
    found, done = settle({other.lease.key: other}, ["10.244.3.0/24"])
    assert done == ["block 10.244.3.0/24 of this node is leased to 192.0.2.9 in Flannel's etcd"]
    assert found == {other.lease.key: other}


def test_after_a_lease_of_its_mac_went_its_own_is_written_again() -> None:
    """Flannel's daemons have just deleted the forwarding entry that both used."""
    first, second = (Held(lease(n, "192.0.2.1", ME.macs[4]), "1") for n in (3, 4))
    found, done = settle({first.lease.key: first, second.lease.key: second}, ["10.244.4.0/24"])
    assert [type(one) for one in done] == [Drop, Write, type(None)]
    assert list(found) == [second.lease.key]


def test_no_lease_is_left() -> None:
    """All fifteen are taken: said, and nothing else happens."""
    full = {
        lease(n).key: Held(lease(n, f"192.0.2.{n + 10}", f"0e:00:00:00:01:{n:02x}"), "1")
        for n in range(1, 16)
    }
    _, done = settle(full, [])
    assert done == ["no IPv4 block is left between Flannel's SubnetMin and SubnetMax"]


@settings(max_examples=100)
@given(
    st.dictionaries(st.integers(0, 15), st.sampled_from(["own", "same address", "other"]), max_size=16),
    st.lists(st.integers(1, 15), max_size=2, unique=True),
    st.booleans(),
)
def test_it_settles_from_anything(held: dict[int, str], blocks: list[int], mend: bool) -> None:
    """One lease of its own or a reason; others' leases are as they were."""
    kinds = {
        "own": ("192.0.2.1", ME.macs[4]),
        "same address": ("192.0.2.1", "0e:00:00:00:00:0f"),
        "other": ("192.0.2.9", "0e:00:00:00:00:09"),
    }
    found = {lease(n).key: Held(lease(n, *kinds[kind]), "1") for n, kind in held.items()}
    after, done = settle(found, [f"10.244.{n}.0/24" for n in blocks], mend)
    assert len(mine(after)) == 1 or isinstance(done[-1], str)
    theirs = {key: one for key, one in found.items() if not ME.has(one.lease)}
    assert {key: one for key, one in after.items() if not ME.has(one.lease)} == theirs
