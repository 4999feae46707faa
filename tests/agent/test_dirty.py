"""Which kernel events are worth a look: what differs from the plan, and nothing else."""

from __future__ import annotations

from podway.agent.dirty import DEPENDENTS, FACTS, dirty
from podway.model.objects import Address, AnyObject, Link, Route, VxlanOptions

BRIDGE = Link(name="br", kind="bridge", alias="podway:bridge:a", mtu=1500)
GATEWAY = Address(link="br", address="10.0.0.1/24", nodad=True)
ROUTE = Route(dst="10.1.0.0/24", via="192.0.2.2", dev="up0")
DESIRED = {o.key: o for o in (BRIDGE, GATEWAY, ROUTE)}


def _dirty(value: AnyObject, deleted: bool = False) -> frozenset[str]:
    return dirty(value.kind_name, value.key, value, deleted, DESIRED, frozenset({"up0"}))


def test_an_event_that_says_what_is_planned_is_nothing() -> None:
    assert not _dirty(BRIDGE)
    assert not _dirty(GATEWAY)
    assert not _dirty(ROUTE)


def test_a_link_that_goes_down_takes_addresses_and_routes_with_it() -> None:
    down = Link(name="br", kind="bridge", alias="podway:bridge:a", mtu=1500, up=False)
    assert {"link", "address", "route"} <= _dirty(down)


def test_a_deleted_route_or_address_is_looked_at() -> None:
    assert _dirty(ROUTE, deleted=True) == DEPENDENTS["route"]
    assert "route" in _dirty(GATEWAY, deleted=True)


def test_an_extra_route_of_ours_is_looked_at_and_a_foreign_one_is_not() -> None:
    assert _dirty(Route(dst="10.9.0.0/24", via="192.0.2.9", dev="up0"))
    assert not _dirty(Route(dst="10.9.0.0/24", via="192.0.2.9", dev="up0", protocol=4))


def test_uplinks_make_the_facts_dirty() -> None:
    assert FACTS in _dirty(Link(name="up0", kind="", up=False))
    assert FACTS in _dirty(Address(link="up0", address="192.0.2.1/24"))
    assert FACTS in _dirty(Route(dst="0.0.0.0/0", via="192.0.2.254", dev="up0", protocol=3))


def test_other_links_are_nobodys_business() -> None:
    assert not _dirty(Link(name="docker0", kind="bridge"))


def test_a_foreign_tunnel_that_goes_makes_room() -> None:
    """It may have held the VNI and port that a device of Podway's needs."""
    gone = Link(name="vx9", kind="vxlan", vxlan=VxlanOptions(vni=1, port=8472, local="192.0.2.1"))
    assert "link" in dirty("link", gone.key, gone, True, {}, frozenset())
    assert not dirty("link", gone.key, gone, False, {}, frozenset())
