"""Putting the executable under the reference plugins' names, beside or in place of others."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from podway import durable
from podway.cni.attached import require_none
from podway.cni.dropin import NAMES
from podway.cni.install import executable
from podway.cni.installed import Record, Removed, digest, digest_of
from podway.cni.shim import SETTINGS
from podway.model.errors import Conflict, InvalidInput


def chosen(text: str) -> list[str]:
    """Names of a list "bridge,portmap"; "all" is all. Raises InvalidInput."""
    names = list(NAMES) if text == "all" else [one.strip() for one in text.split(",") if one.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise InvalidInput(
            f"{', '.join(unknown) or 'nothing'} is no drop-in plugin", "--drop-in", ", ".join(NAMES)
        )
    return names


def foreign(bin_dir: Path, names: Sequence[str]) -> list[Path]:
    """Somebody else's files that these names would replace."""
    bin_dir = bin_dir.absolute()
    record = Record.read(bin_dir)
    return [bin_dir / name for name in names if record.is_foreign(bin_dir / name)]


def install(
    bin_dir: Path, names: Sequence[str], socket: str, fallback: list[str], replace: bool = False
) -> list[Path]:
    """Write the executables and where their agent is; the paths that had to change (none when run again).

    A foreign file is kept beside its place with ``replace``; else Conflict, and nothing is changed."""
    bin_dir = bin_dir.absolute()
    in_the_way = foreign(bin_dir, names)
    if in_the_way and not replace:
        which = ", ".join(path.name for path in in_the_way)
        fix = "--replace puts them aside until `podway cni remove`; or choose names, or another --bin-dir"
        raise Conflict(f"files that Podway did not write are in the way: {which}", str(bin_dir), fix)
    settings = {"socket": os.path.abspath(socket), "fallback": fallback}
    wanted = {bin_dir / name: (executable(), 0o755) for name in names}
    wanted[bin_dir / SETTINGS] = (json.dumps(settings, indent=2).encode() + b"\n", 0o644)
    changed = [path for path, (data, _) in wanted.items() if digest_of(path) != digest(data)]
    # settings first: an executable that finds none has no agent
    changed.sort(key=lambda path: path.name != SETTINGS)
    bin_dir.mkdir(parents=True, exist_ok=True)
    Record.read(bin_dir).enter({path: data for path, (data, _) in wanted.items()}, keep=True)
    for path in changed:
        durable.replace(path, *wanted[path])
    return changed


def complete(bin_dir: Path, socket: str, fallback: list[str]) -> list[Path]:
    """What runtimes need beside a network of Podway's, where nobody else's is there: containerd executes
    ``loopback`` for each pod."""
    names = ["loopback"]
    return [] if foreign(bin_dir, names) else install(bin_dir, names, socket, fallback)


def require_unused(bin_dir: Path, names: Sequence[str] = tuple(NAMES)) -> None:
    """Raise Conflict while pods are attached by what ``remove`` would remove."""
    bin_dir = bin_dir.absolute()
    own = {path.name for path in Record.read(bin_dir).paths()}.intersection(names)
    require_none(bin_dir / SETTINGS, plugins=own)


def remove(bin_dir: Path, names: Sequence[str] = tuple(NAMES)) -> Removed:
    """Remove what ``install`` wrote under these names; the settings after the last."""
    bin_dir = bin_dir.absolute()
    record, done = Record.read(bin_dir), Removed([], [], [])
    for name in names:
        record.remove(bin_dir / name, done)
    if not any(bin_dir / name in record.paths() for name in NAMES):
        record.remove(bin_dir / SETTINGS, done)
    record.save()
    return done
