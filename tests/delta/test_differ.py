"""The differ: nothing to do where desired stands, order that is safe, foreign things left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podway.delta.differ import diff, matches, ordered, undone
from podway.model.objects import (
    Address,
    AnyObject,
    BridgePort,
    Link,
    NftChain,
    NftElement,
    NftRule,
    NftSet,
    Op,
    Route,
    Sysctl,
    VxlanOptions,
)

OURS = "podway:test"


def _table(*objects: AnyObject) -> dict[tuple[str, ...], AnyObject]:
    return {o.key: o for o in objects}


BRIDGE = Link(name="br", kind="bridge", alias=OURS, mtu=1500)
VETH = Link(name="v1", kind="veth", alias=OURS, master="br", port=BridgePort(hairpin=True))
GATEWAY = Address(link="br", address="10.0.0.1/24", nodad=True)
ROUTE = Route(dst="10.1.0.0/24", via="10.0.0.2", dev="br")
FORWARD = Sysctl(path="net/ipv4/ip_forward", value="1")
OF_LINK = Sysctl(path="net/ipv4/conf/br/send_redirects", value="0")
SET = NftSet(family="inet", name="s", type=("ipv4_addr",))
CHAIN = NftChain(family="inet", name="c", rules=(NftRule("accept", "why"),))
ELEMENT = NftElement(family="inet", set="s", value=("10.0.0.9",))
ALL = (ROUTE, OF_LINK, ELEMENT, CHAIN, GATEWAY, VETH, SET, FORWARD, BRIDGE)


def test_everything_missing_is_created_in_the_order_of_use() -> None:
    created = [op.want for op in diff(_table(*ALL), {}).ops]
    assert created == [SET, ELEMENT, CHAIN, FORWARD, BRIDGE, VETH, OF_LINK, GATEWAY, ROUTE]


def test_a_change_is_undone_by_what_it_changed_alone() -> None:
    """A MAC that was not asked for is not set, or a bridge would keep it for good."""
    found = Link(name="br", kind="bridge", mac="02:00:00:00:00:01", promisc=False, up=False)
    op = Op(Link(name="br", kind="bridge", promisc=True), found)
    assert undone(op) == Op(found, Link(name="br", kind="bridge", mac=found.mac, promisc=True, up=True))
    assert undone(Op(GATEWAY, None)) == Op(None, GATEWAY)


def test_removal_is_the_reverse_of_creation() -> None:
    removed = [op.have for op in diff({}, _table(*ALL)).ops if op.have not in (FORWARD, OF_LINK)]
    assert removed == [ROUTE, GATEWAY, VETH, BRIDGE, CHAIN, ELEMENT, SET]


def test_creations_come_before_removals() -> None:
    ops = diff(_table(ROUTE), _table(GATEWAY)).ops
    assert [op.verb for op in ops] == ["create", "delete"]


@given(st.sets(st.sampled_from(ALL)), st.sets(st.sampled_from(ALL)))
def test_applying_all_operations_leaves_no_difference(want: set[AnyObject], have: set[AnyObject]) -> None:
    desired, actual = _table(*want), _table(*have)
    for op in diff(desired, actual).ops:
        if op.want is None:
            del actual[op.key]
        else:
            actual[op.key] = op.want
    assert diff(desired, actual).ops == ()


def test_none_asks_for_nothing() -> None:
    have = Link(name="br", kind="bridge", alias=OURS, mtu=1400, mac="02:00:00:00:00:01", group=0)
    assert matches(Link(name="br", kind="bridge", alias=OURS), have)
    assert not matches(Link(name="br", kind="bridge", alias=OURS, mtu=1500), have)


def test_nested_options_are_compared_one_by_one() -> None:
    have = Link(name="v1", kind="veth", port=BridgePort(hairpin=True, isolated=False, learning=True))
    assert matches(Link(name="v1", kind="veth", port=BridgePort(hairpin=True)), have)
    assert not matches(Link(name="v1", kind="veth", port=BridgePort(isolated=True)), have)


def test_creation_only_fields_are_no_difference() -> None:
    have = Address(link="br", address="10.0.0.1/24", nodad=False, noprefixroute=False)
    assert diff(_table(GATEWAY), _table(have)).ops == ()


def test_a_foreign_link_is_neither_removed_nor_taken() -> None:
    foreign = Link(name="br", kind="bridge", alias="")
    assert diff({}, _table(foreign)).ops == ()
    found = diff(_table(BRIDGE, GATEWAY, OF_LINK), _table(foreign))
    assert found.ops == ()
    assert "did not make" in found.refusals[0].reason


def test_an_adopted_bridge_is_used_and_its_absence_refused() -> None:
    adopted = Link(name="br", kind="bridge", adopted=True)
    foreign = Link(name="br", kind="bridge", alias="", mtu=1500)
    assert diff(_table(adopted, GATEWAY), _table(foreign)).ops == (Op(GATEWAY, None),)
    assert "no bridge br" in diff(_table(adopted, GATEWAY), {}).refusals[0].reason


def test_a_link_that_can_not_be_changed_is_made_anew_with_all_that_stood_on_it() -> None:
    have = Link(name="br", kind="veth", alias=OURS)
    gateway = Address(link="br", address="10.0.0.1/24")
    anew = (Op(BRIDGE, have), Op(OF_LINK, None), Op(gateway, None))
    assert diff(_table(BRIDGE, OF_LINK, gateway), _table(have, OF_LINK, gateway)).ops == anew

    def tunnel(vni: int) -> Link:
        vxlan = VxlanOptions(vni=vni, port=8472, local="192.0.2.1")
        return Link(name="vx", kind="vxlan", alias=OURS, vxlan=vxlan)

    over = Route(dst="10.2.0.0/24", via="10.2.0.0", dev="vx", onlink=True)
    changed = diff(_table(tunnel(1), over), _table(tunnel(2), over))
    assert changed.ops == (Op(tunnel(1), tunnel(2)), Op(over, None))
    assert not diff(_table(tunnel(1), over), _table(tunnel(1), over)).ops


def test_frozen_keys_stay_as_they_are() -> None:
    assert diff(_table(ROUTE), {}, frozen={ROUTE.key}).ops == ()
    assert diff({}, _table(ROUTE), frozen={ROUTE.key}).ops == ()


def test_keys_limit_the_look() -> None:
    assert diff(_table(ROUTE, BRIDGE), {}, keys=[ROUTE.key]).ops == (Op(ROUTE, None),)


def test_order_does_not_depend_on_input_order() -> None:
    ops = [Op(o, None) for o in ALL]
    assert ordered(ops) == ordered(reversed(ops))
