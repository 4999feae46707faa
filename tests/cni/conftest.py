"""The executable in both forms: the C program, compiled from source, and the Python script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import podway.cni

SOURCE = Path(podway.cni.__file__).parent / "shim" / "podway-cni.c"


@pytest.fixture(scope="session")
def compiled_shim(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """argv of the C program, compiled with the flags of scripts/setup."""
    target = tmp_path_factory.mktemp("shim") / "podway-cni"
    flags = ["-static", "-Os", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["musl-gcc", *flags, "-o", target, SOURCE], check=True)
    return [str(target)]


@pytest.fixture(params=["c", "python"])
def shim(request: pytest.FixtureRequest) -> list[str]:
    """argv of the executable, in each form."""
    if request.param == "python":
        return [sys.executable, "-I", "-m", "podway.cni.shim"]
    found = request.getfixturevalue("compiled_shim")
    assert isinstance(found, list)
    return found
