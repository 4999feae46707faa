"""The address book: no address twice, nothing lost, cool-downs kept, under any interleaving."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from podway.ipam.blocks import candidates
from podway.ipam.state import Allocations, Choice, NeedBlock, exhausted
from podway.model.errors import Conflict, InvalidInput
from podway.model.resources import Network, NetworkSpec, Pool

COOLDOWN = 30.0


def network(*pools: Pool, attach: str = "bridge") -> Network:
    return Network(name="n", spec=NetworkSpec(pools=pools, attach=attach))  # type: ignore[arg-type]


SMALL = network(
    Pool(cidr="10.0.0.0/27", block_size=29, reserved=("10.0.0.4", "10.0.0.10-10.0.0.11")),
    Pool(cidr="fd00::/62"),
)


class Book(RuleBasedStateMachine):
    """A node's allocations beside a plain model; a crash drops the memory and loads what was persisted."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Allocations()
        self.blocks: list[str] = []
        self.now = 1000.0
        self.held: dict[str, tuple[str, ...]] = {}
        self.cooling: dict[str, float] = {}
        self.number = 0

    @rule()
    def add(self) -> None:
        self.number += 1
        name = f"c{self.number}"
        for _ in range(6):
            found = self.book.choose(SMALL, self.blocks, name, self.now)
            if isinstance(found, Choice):
                self._check(found)
                self.held[name] = tuple(a.partition("/")[0] for a in found.addresses)
                return
            block = next(iter(candidates(SMALL, self.blocks, found.family, "a")), None)
            if block is None:
                assert name not in self.book.holders.values()
                return
            self.blocks.append(block)
        raise AssertionError("never satisfied")

    def _check(self, choice: Choice) -> None:
        taken = {a for addresses in self.held.values() for a in addresses}
        for address, gateway in zip(choice.addresses, choice.gateways, strict=True):
            interface = ipaddress.ip_interface(address)
            assert str(interface.network) in self.blocks
            assert interface.ip not in (interface.network[0], interface.network[1], interface.network[-1])
            assert str(interface.ip) not in {"10.0.0.4", "10.0.0.10", "10.0.0.11"} | taken
            assert self.cooling.get(str(interface.ip), 0) <= self.now
            assert ipaddress.ip_address(gateway) == interface.network[1]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cools=st.booleans())
    def delete(self, data: st.DataObject, cools: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        addresses = self.held.pop(name)
        until = self.now + COOLDOWN if cools else None
        self.cooling |= self.book.release(addresses, until)

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def crash(self) -> None:
        self.book = Allocations()
        for name, addresses in self.held.items():
            self.book.hold(addresses, name)
        self.book.cooling = {a: t for a, t in self.cooling.items() if t > self.now}

    @invariant()
    def agrees(self) -> None:
        model = {address: name for name, addresses in self.held.items() for address in addresses}
        assert self.book.holders == model


TestBook = Book.TestCase
TestBook.settings = settings(max_examples=60, stateful_step_count=40)

PLAIN = network(Pool(cidr="10.244.0.0/16"))


def test_an_address_is_used_again_as_late_as_possible() -> None:
    book = Allocations()
    given = []
    for number in range(5):
        choice = book.choose(PLAIN, ["10.244.1.0/24"], f"c{number}", 0.0)
        assert isinstance(choice, Choice)
        given.append(choice.addresses[0])
        book.release([choice.addresses[0].partition("/")[0]], None)
    assert given == [f"10.244.1.{n}/24" for n in range(2, 7)]


def test_requested_addresses() -> None:
    book = Allocations()
    blocks = ["10.244.1.0/24"]
    assert book.choose(PLAIN, blocks, "c", 0.0, ips=["10.244.1.77"]) == Choice(
        ("10.244.1.77/24",), ("10.244.1.1",)
    )
    with pytest.raises(Conflict, match="held by c"):
        book.choose(PLAIN, blocks, "d", 0.0, ips=["10.244.1.77"])
    with pytest.raises(InvalidInput, match="no pool"):
        book.choose(PLAIN, blocks, "d", 0.0, ips=["192.0.2.1"])
    with pytest.raises(InvalidInput, match="kept back"):
        book.choose(PLAIN, blocks, "d", 0.0, ips=["10.244.1.1"])
    elsewhere = book.choose(PLAIN, blocks, "d", 0.0, ips=["10.244.9.9"])
    assert elsewhere == NeedBlock(4, "10.244.9.9")
    assert next(candidates(PLAIN, blocks, 4, "a", "10.244.9.9")) == "10.244.9.0/24"


def test_a_requested_range() -> None:
    book = Allocations()
    ranges = [[("10.244.1.100", "10.244.1.101")]]
    found = [book.choose(PLAIN, ["10.244.1.0/24"], f"c{n}", 0.0, ranges=ranges) for n in range(3)]
    assert [getattr(one, "addresses", one) for one in found] == [
        ("10.244.1.100/24",),
        ("10.244.1.101/24",),
        NeedBlock(4),
    ]


def test_a_routed_block_keeps_back_its_first() -> None:
    """It is the node's own end of a tunnel, should the network get one."""
    routed = network(Pool(cidr="10.244.0.0/16"), attach="routed")
    book = Allocations()
    found = [book.choose(routed, ["10.244.1.0/26"], f"c{n}", 0.0) for n in range(64)]
    assert sum(isinstance(one, Choice) for one in found) == 63
    assert found[0] == Choice(("10.244.1.1/32",), ("169.254.1.1",))
    assert next(candidates(routed, [], 4, "a")).endswith("/26")


def test_candidates_of_a_wide_pool_are_not_enumerated_and_differ_by_node() -> None:
    wide = network(Pool(cidr="fd00:10:244::/48"))
    first = {next(candidates(wide, [], 6, f"node{n}")) for n in range(20)}
    assert len(first) == 20
    assert len(list(candidates(network(Pool(cidr="10.0.0.0/22")), ["10.0.1.0/24"], 4, "a"))) == 3


def test_exhausted_says_pool_use_and_what_to_do() -> None:
    error = exhausted(PLAIN, 4, {"a": 200, "b": 56}, 12)
    assert "10.244.0.0/16" in error.what and "a 200, b 56" in error.what and "add a pool" in error.fix


@pytest.mark.parametrize("claimed", ["10.0.0.0/24", "10.0.0.128/26", "10.0.0.0/28"])
def test_no_candidate_overlaps_a_claim_of_another_size(claimed: str) -> None:
    narrow = network(Pool(cidr="10.0.0.0/23", block_size=25))
    found = list(candidates(narrow, {claimed}, 4, "a"))
    other = ipaddress.ip_network(claimed)
    assert found and not [cidr for cidr in found if ipaddress.ip_network(cidr).overlaps(other)]
