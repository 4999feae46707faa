"""Whether this machine acts as the node that it is called: others may, or the node may have been deleted."""

from __future__ import annotations

import contextlib
import socket
import uuid
from pathlib import Path

from podway.model.errors import Unavailable
from podway.model.resources import Identity, Machine
from podway.node.cluster import Cluster
from podway.plan import identity
from podway.plan.identity import Standing
from podway.plan.notes import Note

FILE = "machine"


def machine(state_dir: str, boot_id: str) -> Machine:
    """This machine, by a number that is made once and kept beside the database."""
    path = Path(state_dir) / FILE
    with contextlib.suppress(FileNotFoundError):
        if known := path.read_text().strip():
            return Machine(state=known, boot=boot_id, host=socket.gethostname())
    made = uuid.uuid4().hex
    new = path.with_suffix(".new")
    new.write_text(made + "\n")
    new.replace(path)
    return Machine(state=made, boot=boot_id, host=socket.gethostname())


class Membership:
    """``standing`` is the last that could be seen; in an outage of the store it stays."""

    def __init__(self, node: str, state_dir: str, boot_id: str) -> None:
        self._node = node
        self._me = machine(state_dir, boot_id)
        self._held = False
        self._asked: float | None = None
        self.standing = Standing(True)

    def look(self, cluster: Cluster, now: float) -> bool:
        """Compare with the store, tell it what changed; whether this machine may act as the node."""
        if not cluster.snapshot.synced:
            return self.standing.serves
        try:
            status = cluster.own_status()
        except Unavailable:
            return self.standing.serves
        if status is None and self._held:
            self.standing = self._left()
            return False
        said = status.identity if status is not None else Identity()
        new, standing = identity.step(said, self._me, self._held, self._node, now, self._asked)
        if new != said and not cluster.tell_identity(new):
            return self.standing.serves  # the store took another's word meanwhile: it will be seen
        if new.claimant != said.claimant and new.claimant is not None and new.claimant.machine == self._me:
            self._asked = now
        self.standing = standing
        self._held = self._held or standing.serves
        return standing.serves

    def _left(self) -> Standing:
        reason = "it was deleted from the cluster, and does nothing more"
        return Standing(
            False, (Note(f"node {self._node}", reason, "restart its agent to let it join again"),)
        )

    def begin_anew(self) -> None:
        """The store is another one: that it doesn't know this node is no deletion."""
        self._held = False

    def require(self) -> None:
        """Raise Unavailable when nothing may be done in the node's name."""
        for note in self.standing.notes:
            if not self.standing.serves:
                raise Unavailable(note.reason, note.subject, note.fix)
