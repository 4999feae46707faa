"""How a lab is: alive or dead, and each node in its agent's own words."""

from __future__ import annotations

import msgspec

from podway.lab.place import Place
from podway.model.errors import PodwayError
from podway.observe import client


class NodeCondition(msgspec.Struct, frozen=True, kw_only=True):
    """``problems``: what the agent says is wanted and isn't so, or why it doesn't answer."""

    name: str
    addresses: tuple[str, ...]
    pods: tuple[str, ...]
    blocks: tuple[str, ...] = ()
    attached: int = 0
    problems: tuple[str, ...] = ()


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """``state``: "up", "starting" or "dead"; ``init``: the process whose end is the lab's.

    ``faults``: what ``podway lab partition`` did to it."""

    name: str
    directory: str
    state: str
    init: int | None = None
    nodes: tuple[NodeCondition, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Up, and no node has a problem."""
        return self.state == "up" and not any(node.problems for node in self.nodes)


def look(place: Place) -> Condition:
    """The condition of a lab now."""
    init = place.init()
    whole = Condition(name=place.name, directory=str(place.directory), state="dead", init=init)
    try:
        saved = place.saved()
    except PodwayError:
        return whole
    if init is None:
        return whole
    nodes = []
    for machine in saved.topology.of("node"):
        node = NodeCondition(
            name=machine.name,
            addresses=tuple(one for port in machine.ports for one in port.addresses),
            pods=machine.pods,
        )
        if machine.name in saved.crashed:
            nodes.append(
                msgspec.structs.replace(node, problems=(f"it is off: podway lab reboot {node.name}",))
            )
        else:
            nodes.append(_ask(place, node))
    state = "up" if saved.up else "starting"
    faults = tuple(fault.words for fault in saved.faults)
    return msgspec.structs.replace(whole, state=state, nodes=tuple(nodes), faults=faults)


def _ask(place: Place, node: NodeCondition) -> NodeCondition:
    try:
        status = client.status(str(place.node(node.name) / "agent.sock"))
    except PodwayError as error:
        return msgspec.structs.replace(node, problems=(error.what,))
    return msgspec.structs.replace(
        node, blocks=status.blocks, attached=status.endpoints, problems=status.problems
    )
