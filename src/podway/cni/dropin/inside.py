"""What DEL puts back inside a pod that still lives."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from podway.kernel import namespaces
from podway.model.dropin import Piece
from podway.model.errors import PodwayError
from podway.model.objects import AnyObject
from podway.node import wiring

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


@contextlib.contextmanager
def living(piece: Piece) -> Iterator[int | None]:
    """A descriptor of the pod's namespace, None when it is gone; what can't be done in there is no error."""
    fd = namespaces.open_same(piece.namespace, piece.namespace_id)
    try:
        with contextlib.suppress(PodwayError, OSError):
            yield fd
    finally:
        if fd is not None:
            os.close(fd)


def put_back(
    engine: NodeEngine, piece: Piece, objects: Iterable[AnyObject], gone: Iterable[AnyObject] = ()
) -> None:
    """Make ``objects`` and remove what is ``gone``, if the pod and its interface are still there."""
    with living(piece) as fd:
        if fd is not None:
            wiring.program_pod(engine.kernel, objects, fd, f"container {piece.container}", gone)
