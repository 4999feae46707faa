"""As systemd starts the agent: readiness, watchdog, stopping; and the unit file that says so."""

from __future__ import annotations

import configparser
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import podway.agent
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

PATIENCE = 30.0


def test_ready_then_alive_again_and_again_then_stopping(tmp_path: Path, in_namespace: int) -> None:
    """And exit code 0, with everything left as it is."""
    url, path = f"sqlite:{tmp_path}/store.db", str(tmp_path / "notify")
    store = open_store(url, create=True)
    store.create(Record(kind="Network", name="pods", spec=b'{"pools": [{"cidr": "10.244.0.0/16"}]}'))
    store.close()
    own = ["--node", "a", "--store", url, "--state-dir", str(tmp_path / "state"), "--listen", ""]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(PATIENCE)
        agent = subprocess.Popen(
            [sys.executable, "-m", "podway", "agent", *own, "--socket", str(tmp_path / "cni.sock")],
            env=os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"},
            stderr=subprocess.DEVNULL,
        )
        try:
            heard = [manager.recv(100) for _ in range(4)]
            assert b"READY=1" in heard[:2] and heard.count(b"WATCHDOG=1") == 3
            agent.send_signal(signal.SIGTERM)
            while manager.recv(100) != b"STOPPING=1":
                pass
            assert agent.wait(PATIENCE) == 0
        finally:
            agent.kill()
            agent.wait()
    assert "pw-pods" in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout


def test_the_unit_file() -> None:
    """What the agent's behaviour under systemd rests on."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(Path(podway.agent.__file__).parent / "podway-agent.service")
    service = unit["Service"]
    assert service["Type"] == "notify" and int(service["WatchdogSec"]) >= 10
    assert service["ExecStart"].endswith("podway agent") and service["Restart"] == "always"
    assert service["KillMode"] == "process"  # whatever the agent started is not its to take along
    assert "containerd.service" in unit["Unit"]["Before"]
