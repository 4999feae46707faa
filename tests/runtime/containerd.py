"""Debian's containerd with its CRI plugin and runc, in a ``Machine``, all state in its directory.

What a machine without systemd as PID 1 and without CAP_SYS_RESOURCE needs is in ``CONFIG``.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import images
import machine
from cri_api.v1 import api_pb2, api_pb2_grpc
from machine import Machine

# The opt and tracing plugins write outside of the directory; the snapshotters aren't used.
CONFIG = """
version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "{dir}/cd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{dir}/bin"
    conf_dir = "{dir}/net.d"
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{dir}/runc"
"""
NEEDED = ("containerd", "containerd-shim-runc-v2", "ctr", "runc", "busybox", "cc", "nsenter", "unshare")


def wait_for(what: str, ready: Any, seconds: float = 60) -> Any:
    """The first true value of ``ready()``. Raises AssertionError naming ``what`` after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := ready():
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


class Containerd:
    """The daemon; ``runtime`` is the stub of its CRI runtime service."""

    def __init__(self, place: Machine) -> None:
        self.machine = place
        self.directory = place.directory
        self.bin_dir = self.directory / "bin"
        self.conf_dir = self.directory / "net.d"
        for path in (self.bin_dir, self.conf_dir):
            path.mkdir()
        overlay = "\toverlay\n" in Path("/proc/filesystems").read_text()
        self.snapshotter = "overlayfs" if overlay else "native"
        config = CONFIG.format(dir=self.directory, pause=images.PAUSE, snapshotter=self.snapshotter)
        (self.directory / "config.toml").write_text(config)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        self.runtime: Any = None

    def start(self) -> None:
        """Start the daemon; returns when its runtime service answers."""
        self._process = self.machine.spawn(
            "containerd", "-c", str(self.directory / "config.toml"), "-l", "warn", log="containerd.log"
        )
        self._channel = grpc.insecure_channel(f"unix://{self.directory}/cd.sock")
        self.runtime = api_pb2_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call]
        wait_for("containerd", self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "containerd.log").read_text()
        try:
            self.runtime.Status(api_pb2.StatusRequest(), timeout=2)
        except grpc.RpcError:
            return False
        return True

    def wait_network(self) -> None:
        """Wait until the CRI plugin has loaded a network configuration."""

        def ready() -> bool:
            try:
                conditions = self.runtime.Status(api_pb2.StatusRequest(), timeout=5).status.conditions
            except grpc.RpcError:
                return False
            return any(one.type == "NetworkReady" and one.status for one in conditions)

        wait_for("a network configuration", ready)

    def import_images(self) -> None:
        """Make and import the pause and the busybox image."""
        for archive in (images.pause(self.directory), images.busybox(self.directory)):
            address = str(self.directory / "cd.sock")
            self.machine.run("ctr", "-a", address, "-n", "k8s.io", "images", "import", str(archive))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the daemon by ``number``; pods and their shims go on."""
        if self._process is None:
            return
        if self._channel is not None:
            self._channel.close()
        self.machine.signal(self._process, number)
        self._process.wait(timeout=30)
        self._process = None

    def log(self) -> str:
        """What the daemon said."""
        return (self.directory / "containerd.log").read_text()


@contextlib.contextmanager
def runtime() -> Iterator[Containerd]:
    """A running containerd with both images, in a machine with an uplink; nothing of it stays."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    assert not missing, f"missing: {', '.join(missing)}; make setup-test installs them"
    with machine.machine() as made:
        made.uplink()
        daemon = Containerd(made)
        daemon.start()
        daemon.import_images()
        yield daemon
