"""Which sessions the nodes have: chosen once for all, changed only when it must be, and never at one blow."""

from __future__ import annotations

import msgspec
import pytest

from podway.controller import reflectors
from podway.controller.reflectors import CALM, GONE, Seen, State, Step
from podway.model.bgp_specs import BGPConfigurationSpec, BGPTopologySpec, ReflectorsSpec, Shape
from podway.model.resources import Node, NodeSpec, Paths

AUTO = BGPConfigurationSpec(mesh_limit=10, reflectors=ReflectorsSpec(spread="rack"))


class World:
    """Nodes, the topology in their store, and a clock."""

    def __init__(self, count: int) -> None:
        self.nodes = {f"n{i:02}": _node(f"n{i:02}", "ab"[i % 2]) for i in range(count)}
        self.configuration = AUTO
        self.topology: BGPTopologySpec | None = None
        self.failing: set[str] = set()
        self.state = State()
        self.now = 1000.0

    def look(self) -> Step:
        seen = Seen(self.nodes, self.configuration, self.topology, frozenset(self.failing))
        step = reflectors.step(self.state, seen, self.now)
        self.state, self.topology = step.state, step.write or self.topology
        return step

    def ready(self, *but: str) -> None:
        """Every node says that it needs the new sessions only."""
        assert self.topology is not None
        for name in self.nodes.keys() - {*but}:
            self.nodes[name] = msgspec.structs.replace(self.nodes[name], sessions=self.topology.generation)

    def settle(self) -> Shape:
        """Looks and readiness until nothing changes any more."""
        for _ in range(5):
            self.look()
            self.ready()
        assert self.topology is not None and self.topology.old == self.topology.new
        return self.topology.new


def _node(name: str, rack: str, drain: bool = False) -> Node:
    return Node(name=name, spec=NodeSpec(labels={"rack": rack}, drain=drain), paths={"pods": Paths()})


def test_above_the_limit_both_kinds_stand_until_every_node_has_the_new() -> None:
    world = World(10)
    assert world.settle() == Shape(mesh=True)
    world.nodes["n10"] = _node("n10", "a")
    world.look()
    both = world.topology
    assert both is not None and both.old == Shape(mesh=True)
    assert both.new == Shape(reflectors=("n00", "n01"))
    world.ready("n07")
    assert world.look().waits == ("n07",) and world.topology == both
    world.ready()
    world.look()
    assert world.topology.old == world.topology.new == both.new


def test_back_to_a_mesh_only_when_it_is_much_smaller_and_for_a_while() -> None:
    world = World(11)
    chosen = world.settle()
    del world.nodes["n10"], world.nodes["n09"]
    assert world.settle() == chosen
    del world.nodes["n08"]
    assert world.settle() == chosen
    world.now += CALM - 1
    world.nodes["n08"] = _node("n08", "a")
    assert world.settle() == chosen
    del world.nodes["n08"]
    world.look()
    world.now += CALM - 1
    assert world.settle() == chosen
    world.now += 2
    assert world.settle() == Shape(mesh=True)


def test_a_reflector_that_is_gone_is_replaced_from_its_own_rack_and_not_taken_again() -> None:
    world = World(12)
    assert world.settle() == Shape(reflectors=("n00", "n01"))
    world.failing = {"n01"}
    deadline = world.look().deadline
    assert deadline == world.now + GONE
    world.now = deadline - 0.1
    assert world.settle() == Shape(reflectors=("n00", "n01"))
    world.now = deadline
    assert "nothing is heard of n01" in world.look().why
    assert world.topology is not None and world.topology.new == Shape(reflectors=("n00", "n03"))
    assert world.topology.without == ("n01",)
    world.ready("n01")
    world.look()  # the one that is gone is not waited for
    assert world.topology.old == world.topology.new
    world.failing = set()
    for _ in range(10):
        world.now += CALM
        assert world.settle() == Shape(reflectors=("n00", "n03"))


def test_one_that_dies_in_a_change_holds_nobody_up() -> None:
    world = World(10)
    world.settle()
    world.nodes["n10"] = _node("n10", "a")
    world.look()
    world.failing = {"n05"}
    world.look()
    world.now += GONE
    world.look()
    assert world.topology is not None and world.topology.without == ("n05",)
    world.ready("n05")
    world.look()
    assert world.topology.old == world.topology.new and world.topology.without == ()


def test_one_that_comes_and_goes_changes_nothing() -> None:
    world = World(12)
    chosen = world.settle()
    generation = world.topology.generation if world.topology else 0
    for _ in range(20):
        world.failing ^= {"n01"}
        world.look()
        world.now += GONE - 1
    assert world.topology == BGPTopologySpec(generation=generation, old=chosen, new=chosen)


def test_a_holder_that_is_cut_off_changes_nothing() -> None:
    world = World(12)
    chosen = world.settle()
    world.failing = set(world.nodes)
    world.look()
    world.now += 10 * GONE
    assert world.settle() == chosen


@pytest.mark.parametrize("how", ["drained", "deleted"])
def test_drained_and_deleted_ones_go_at_once(how: str) -> None:
    world = World(13)
    world.settle()
    if how == "drained":
        world.nodes["n00"] = _node("n00", "a", drain=True)
    else:
        del world.nodes["n00"]
    assert world.settle() == Shape(reflectors=("n01", "n02"))


def test_what_is_declared_is_changed_over_to_likewise() -> None:
    world = World(4)
    world.settle()
    world.configuration = BGPConfigurationSpec(reflectors=ReflectorsSpec(selector="rack=a"))
    world.look()
    assert world.topology is not None and world.topology.old == Shape(mesh=True)
    assert world.settle() == Shape(reflectors=("n00", "n02"))


def test_a_change_of_mind_in_a_change_keeps_what_stands() -> None:
    """Half-way to reflectors one of them is drained: the mesh stays until others are there."""
    world = World(10)
    world.settle()
    world.nodes["n10"] = _node("n10", "a")
    world.look()
    world.nodes["n00"] = _node("n00", "a", drain=True)
    world.look()
    assert world.topology is not None and world.topology.old == Shape(mesh=True)
    assert world.topology.new == Shape(reflectors=("n01", "n02"))
