"""Debian's podman with its CNI backend and runc, in a ``Machine``, all state in its directory.

What a machine without systemd as PID 1 and without CAP_SYS_RESOURCE needs is in ``CONFIG``. Locks are files:
podman's default, shared memory, would be the real machine's.
"""

from __future__ import annotations

import json

import images
from machine import Machine

CONFIG = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
cgroupns = "host"
cgroups = "enabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
static_dir = "DIR/podman/root/libpod"
tmp_dir = "/run/podman-tmp"
volume_path = "DIR/podman/volumes"
infra_image = "podway.test/pause:1"
infra_command = "/pause"
[network]
network_backend = "cni"
network_config_dir = "DIR/net.d"
cni_plugin_dirs = ["DIR/bin"]
"""
STORAGE = """
[storage]
driver = "vfs"
graphroot = "DIR/podman/root"
runroot = "/run/podman-root"
"""
FILES = {
    "containers.conf": CONFIG,
    "storage.conf": STORAGE,
    "policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
}


class Podman:
    """podman, its networks' configurations in ``conf_dir`` and their executables in ``bin_dir``."""

    def __init__(self, place: Machine) -> None:
        self.machine = place
        self.directory = place.directory
        self.bin_dir = self.directory / "bin"
        self.conf_dir = self.directory / "net.d"
        settings = self.directory / "etc"
        for path in (self.bin_dir, self.conf_dir, settings):
            path.mkdir()
        for name, text in FILES.items():
            (settings / name).write_text(text.replace("DIR", str(self.directory)))
        place.cover(
            settings, "/etc/containers"
        )  # podman calls itself when a container ends, with no environment

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Standard output of a podman command. Raises AssertionError."""
        return self.machine.run("podman", *arguments, check=check, timeout=120)

    def wait_network(self) -> None:
        """podman reads the configurations for every command."""

    def import_images(self) -> None:
        """Make and load the pause and the busybox image."""
        for archive in (images.pause(self.directory), images.busybox(self.directory)):
            self("load", "-q", "-i", str(archive))

    def run(self, name: str, *options: str, command: tuple[str, ...] = ("httpd", "-f", "-h", "/www")) -> str:
        """Identifier of a new container of busybox that serves on port 80, in the background."""
        where = () if "--pod" in options else ("--cgroup-parent", f"/{self.machine.cgroup}")
        words = ("run", "-d", "--name", name, "--entrypoint", "", *where, *options, images.BUSYBOX, *command)
        return self(*words).strip()

    def execute(self, name: str, *command: str) -> str:
        """Standard output of a command in a container."""
        return self("exec", name, *command)

    def addresses(self, name: str) -> dict[str, str]:
        """Network → the container's IPv4 address there."""
        found = json.loads(self("inspect", name))[0]["NetworkSettings"]["Networks"]
        return {network: one["IPAddress"] for network, one in found.items()}
