"""Which machine is a node: two that run under one name must not undo each other. A pure state machine.

A node's status in the store says which machine holds the name. A machine that finds another's there
does not begin: it puts itself beside it as ``claimant`` and waits ``PATIENCE`` seconds. An agent of the
holder that lives refuses it as soon as it sees it, and both name each other from then on; where nobody
answers (a node installed anew under its old name) the claimant takes the name, and the blocks with it.

A machine is known by a number in its state directory and by its boot. The same directory with another
boot is the same machine, started again, and begins at once; unless the earlier boot still lives: a
clone, which is refused likewise.
"""

from __future__ import annotations

import msgspec

from podway.model.resources import Claim, Identity, Machine
from podway.plan.notes import Note

PATIENCE = 3.0  # seconds that a living holder has to refuse a claimant
AGAIN = 60.0  # seconds until a refused machine asks again
FORGET = 200.0  # seconds after which a refused machine that doesn't ask again is forgotten


class Standing(msgspec.Struct, frozen=True):
    """Whether this machine may act as the node, what is to be said about it, and when to look again (s)."""

    serves: bool
    notes: tuple[Note, ...] = ()
    wake: float | None = None


def step(
    said: Identity, me: Machine, held: bool, node: str, now: float, asked: float | None = None
) -> tuple[Identity, Standing]:
    """What the store should say instead of ``said``, and how this machine stands by it.

    ``held``: whether this process has held the name already. ``now``: wall clock of this machine, and
    ``asked`` when this process asked last: others' clocks may be far off, and must not make it ask on and on.
    """
    holder = said.machine
    if holder == me:
        return _hold(said, me, node, now)
    if holder is None or (holder.state == me.state and not held and said.refused_machine != me):
        return _hold(msgspec.structs.replace(said, machine=me), me, node, now)
    if holder.state == me.state and held and said.refused_machine != me:
        # a clone of this machine's disk, which began because it took itself for this one
        clone = msgspec.structs.replace(said, machine=me, claimant=Claim(machine=holder, since=now))
        return _hold(clone, me, node, now)
    return _ask(said, me, node, now, asked)


def _hold(said: Identity, me: Machine, node: str, now: float) -> tuple[Identity, Standing]:
    if said.claimant is not None and said.claimant.machine != me:
        refused = Claim(machine=said.claimant.machine, since=now)
        said = msgspec.structs.replace(said, claimant=None, refused=refused)
    if said.refused is not None and now - said.refused.since > FORGET:
        said = msgspec.structs.replace(said, refused=None)
    if said.refused is None:
        return said, Standing(True)
    reason = f"machine {said.refused.machine.host} was started as {node} too, and was refused"
    fix = f"give it another name (--node) and an empty state directory, or delete Node {node} first"
    return said, Standing(True, (Note(f"node {node}", reason, fix),), said.refused.since + FORGET + 1)


def _ask(
    said: Identity, me: Machine, node: str, now: float, asked: float | None
) -> tuple[Identity, Standing]:
    assert said.machine is not None
    host = said.machine.host
    if said.refused is not None and said.refused_machine == me:
        again = (min(said.refused.since, now) if asked is None else asked) + AGAIN
        if now < again:
            reason = f"machine {host} is {node}; this one was refused, and does nothing"
            fix = f"give this one another --node and an empty state directory, or stop the agent of {host}"
            return said, Standing(False, (Note(f"node {node}", reason, fix),), again)
        said = msgspec.structs.replace(said, refused=None)
    claim = said.claimant
    if claim is not None and claim.machine == me and now - claim.since >= PATIENCE:
        return _hold(msgspec.structs.replace(said, machine=me, claimant=None), me, node, now)
    stale = claim is not None and claim.machine != me and not 0 <= now - claim.since < AGAIN
    if (claim is None or stale) and (asked is None or not 0 <= now - asked < AGAIN):
        claim = Claim(machine=me, since=now)
    note = Note(f"node {node}", f"the store says that machine {host} is {node}: it is asked", "wait a moment")
    since = claim.since if claim is not None and claim.machine == me else now
    return msgspec.structs.replace(said, claimant=claim), Standing(False, (note,), since + PATIENCE)
