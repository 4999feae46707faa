"""What the reference plugin tuning keeps of an interface while it is changed: a file, which DEL puts back."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from podway.cni.dropin.ask import Ask
from podway.cni.dropin.ranges import directory
from podway.cni.errors import CniError
from podway.model.errors import PodwayError
from podway.model.objects import Link
from podway.node import takeover, wiring

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

DIRECTORY = "/run/cni/tuning"  # defaultDataDir, plugins/meta/tuning/tuning.go
_LIMIT = 4096  # bytes


class _Kept(msgspec.Struct, frozen=True, rename={"txqlen": "txQLen"}):
    """configToRestore, plugins/meta/tuning/tuning.go: what was not changed is missing."""

    mac: str | None = None
    promisc: bool | None = None
    mtu: int | None = None
    allmulti: bool | None = None
    txqlen: int | None = None


def put_back(engine: NodeEngine, ask: Ask) -> None:
    """Set the pod's interface as it was found, if it still stands, and remove the file; none is no error."""
    me = ask.me
    try:
        path = os.path.join(directory(ask.section) or DIRECTORY, f"{me.container}_{me.ifname}.json")
        with open(path, "rb") as file:
            kept = msgspec.json.decode(file.read(_LIMIT), type=_Kept)
    except FileNotFoundError:
        return
    except (CniError, OSError, ValueError):  # DEL goes on; it isn't the file that tuning writes
        return
    takeover.note(engine.database, f"container {me.container} interface {me.ifname}", [path])
    if ask.living >= 0:
        with contextlib.suppress(PodwayError, OSError):  # the interface may have vanished meanwhile
            _set(engine, ask, kept)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _set(engine: NodeEngine, ask: Ask, kept: _Kept) -> None:
    found = engine.kernel.link_inside(ask.call.pod_fd, ask.me.ifname)
    if found is None:
        return
    before = Link(
        name=found.name,
        kind=found.kind,
        up=None,
        mac=kept.mac or None,
        mtu=kept.mtu or None,
        promisc=kept.promisc,
        allmulti=kept.allmulti,
        txqlen=kept.txqlen,
    )
    wiring.program_pod(engine.kernel, [before], ask.call.pod_fd, f"container {ask.me.container}")
