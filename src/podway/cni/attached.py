"""Pods that came by what is installed: nobody but Podway can free them, so they go before it does."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from podway.model.errors import Conflict, Unavailable
from podway.node.database import Database

SHOWN = 3


def require_none(settings: Path, network: str = "", plugins: Collection[str] = ()) -> None:
    """Raise Conflict naming pods that are attached to ``network``, or came by one of the drop-in ``plugins``.

    ``settings``: the installed conflist, or the file beside drop-ins: it tells the node. Without a database
    there are none."""
    found: dict[str, str] = {}
    with suppress(Unavailable), closing(Database.open(_state_dir(settings), readonly=True)) as database:
        for pod, state in database.endpoints().values():
            if pod.network == network and state != "deleting":
                found[pod.container] = f"{pod.container[:12]} (network {network})"
        for piece, state in database.pieces().values():
            if piece.container and piece.plugin in plugins and state != "deleting":
                found[piece.container] = f"{piece.container[:12]} (network {piece.configuration})"
    if not found:
        return
    more = ", …" if len(found) > SHOWN else ""
    which = ", ".join(sorted(found.values())[:SHOWN]) + more
    fix = "stop these first (podman stop, crictl stopp), or --force and podway uninstall"
    count = f"{len(found)} containers" if len(found) > 1 else "one container"
    raise Conflict(f"{count} came by it, and nobody else can free what that has: {which}", str(settings), fix)


def _state_dir(settings: Path) -> str:
    """Of the command that carries calls out without an agent (``install.fallback_command``), "" for none."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(settings.read_bytes())
        command = found.get("fallback") or found["plugins"][0]["fallback"]
        return str(command[command.index("--state-dir") + 1])
    return ""
