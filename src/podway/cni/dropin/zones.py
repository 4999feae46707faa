"""Zones of firewalld that the reference plugin ``firewall`` has bound addresses to: taken out of them again.

Beside the writer, since firewalld may take its time, and before the addresses are given back, so that a call
that was cut off finds them once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from podway.cni.steps import Aside, Steps, Work
from podway.kernel import firewalld
from podway.node import takeover
from podway.node.faults import reach

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

Owner = tuple[str, str]  # container, interface


def leave(held: Mapping[Owner, tuple[str, ...]]) -> Steps[None]:
    """Take the addresses (bare) out of the zones that they are in at run time.

    A firewalld that refuses or hangs is no reason why a pod should not go: the journal says what is left."""
    whose = {address: owner for owner, addresses in held.items() for address in addresses}
    try:
        found: tuple[firewalld.Source, ...] = yield Aside(lambda: firewalld.sources(whose))
        if not found:
            return
        yield Work(lambda engine: _note(engine, whose, found))
        yield Aside(lambda: firewalld.unbind(found))
        reach("takeover.zone")
    except OSError as error:
        why = f"firewalld: {error}"
        yield Work(lambda engine: takeover.leave(engine.database, ", ".join(whose), why))


def _note(engine: NodeEngine, whose: Mapping[str, Owner], found: tuple[firewalld.Source, ...]) -> None:
    for one in found:
        subject = takeover.named(*whose[one.address])
        takeover.note(engine.database, subject, [f"source {one.bound} of firewalld's zone {one.zone}"])
