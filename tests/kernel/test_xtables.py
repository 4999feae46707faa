"""iptables' own commands: whatever becomes of one, its caller goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from podway.kernel import xtables
from podway.model.errors import Unavailable
from podway.model.gate import Where

FORWARD = Where("iptables-legacy", "ip", "filter", "FORWARD")


def test_one_that_hangs_is_ended_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the chain that was asked for, as if it had refused."""
    command = tmp_path / "iptables-legacy"
    command.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 60\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(xtables, "PATIENCE", 2.0)
    with pytest.raises(OSError, match="iptables-legacy did not end within 2 s") as hung:
        xtables.rules(FORWARD)
    assert hung.value.errno == errno.ETIMEDOUT
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_is_missing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that are in use and can't be looked at are no reason to fail with a defect."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="there is no iptables-legacy") as missing:
        xtables.rules(FORWARD)
    assert missing.value.fix == "apt install iptables"
