"""The record of what was installed: by content, in a file beside the executables."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from podway import durable
from podway.model.errors import Conflict

RECORD = ".podway-cni.installed"
_KEPT = ".{}.before-podway"


class Removed(NamedTuple):
    """What was removed, what was left because it was changed since, and what was put back."""

    removed: list[Path]
    left: list[Path]
    restored: list[Path]


class Record:
    """Path → what Podway wrote there: the content before and after the last installation, so that one which
    was cut short in between can be repeated. ``kept``: paths whose foreign file was kept beside it."""

    def __init__(self, path: Path, files: dict[str, list[str]], kept: list[str]) -> None:
        self._path = path
        self._files = files
        self._kept = kept
        self._written = self._encoded()

    @classmethod
    def read(cls, bin_dir: Path) -> Record:
        """Of what was installed with this directory. Raises Conflict when it can't be read."""
        path = bin_dir / RECORD
        try:
            found = json.loads(path.read_bytes())
            files = {str(name): list(digests) for name, digests in found["files"].items()}
            return cls(path, files, list(found.get("kept", [])))
        except FileNotFoundError:
            return cls(path, {}, [])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Conflict("the record of installed files can't be read", str(path), "remove it") from None

    def paths(self) -> list[Path]:
        """Everything in it."""
        return [Path(name) for name in self._files]

    def is_own(self, path: Path) -> bool:
        """Whether what is there is what Podway wrote."""
        return digest_of(path) in self._files.get(str(path), [])

    def is_foreign(self, path: Path) -> bool:
        """Whether somebody else's file is there."""
        return os.path.lexists(path) and not self.is_own(path)

    def enter(self, wanted: Mapping[Path, bytes], keep: bool = False) -> None:
        """Before files are written. ``keep``: a foreign one that will be replaced is linked aside."""
        foreign = [path for path in wanted if self.is_foreign(path)] if keep else []
        for path, data in wanted.items():
            before = set() if path in foreign else {digest_of(path)}
            self._files[str(path)] = sorted((before | {digest(data)}) - {""})
        self._kept = sorted({*self._kept, *map(str, foreign)})
        self.save()
        for path in foreign:
            aside(path).unlink(missing_ok=True)
            os.link(path, aside(path), follow_symlinks=False)

    def remove(self, path: Path, done: Removed) -> None:
        """Take away what was written, or put back what was there before; a changed file is left."""
        if str(path) not in self._files:
            return
        own = self.is_own(path)
        del self._files[str(path)]
        kept = str(path) in self._kept
        if kept and (own or not os.path.lexists(path)) and os.path.lexists(aside(path)):
            os.replace(aside(path), path)
            done.restored.append(path)
        elif kept and os.path.lexists(aside(path)) and os.path.samefile(aside(path), path):
            aside(path).unlink()  # the installation was cut short before it replaced anything
        elif own:
            path.unlink()
            done.removed.append(path)
        elif os.path.lexists(path):
            done.left.append(path)
        if kept:
            self._kept.remove(str(path))

    def save(self) -> None:
        """Write it, if it changed; an empty one goes."""
        if not self._files:
            with suppress(FileNotFoundError):
                self._path.unlink()
        elif self._encoded() != self._written:
            durable.replace(self._path, self._encoded(), 0o644)
        self._written = self._encoded()

    def _encoded(self) -> bytes:
        whole: dict[str, object] = {"version": 1, "files": self._files}
        if self._kept:
            whole["kept"] = self._kept
        return json.dumps(whole, indent=2, sort_keys=True).encode() + b"\n"


def aside(path: Path) -> Path:
    """Where a foreign file is kept that was replaced."""
    return path.with_name(_KEPT.format(path.name))


def digest(data: bytes) -> str:
    """Of a file's content."""
    return hashlib.sha256(data).hexdigest()


def digest_of(path: Path) -> str:
    """Of what is at ``path``; "" when nothing is."""
    try:
        return digest(path.read_bytes())
    except FileNotFoundError:
        return ""
