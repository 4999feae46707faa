"""What a node's agent says is wrong, as checks of ``podway doctor``."""

from __future__ import annotations

from podway.kernel.preflight import Check
from podway.model.errors import Unavailable
from podway.observe import client, controller


def checks(path: str) -> list[Check]:
    """A warning for each of its problems: what is wanted and isn't so, and why."""
    try:
        found = client.status(path)
    except Unavailable as error:
        return [
            Check("agent", "warning", "none answers: pods come and go, and nothing is repaired", error.fix)
        ]
    made = [Check("agent", "warning", problem) for problem in found.problems]
    made = made or [Check("agent", "ok", f"of node {found.node}: everything stands as wanted")]
    said = controller.lines(found.controller)
    return made + ([Check("controller", "ok", "; ".join(line.strip() for line in said))] if said else [])
