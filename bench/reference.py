"""The reference CNI plugins: Debian's, and a current release built once into a cache.

The firewall plugin knows iptables and firewalld only; with "nftables", masquerade and ports use it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from bench.built import CACHE, built

RELEASE = "1.9.1"
DEBIAN = Path("/usr/lib/cni")
MODULE = f"github.com/containernetworking/plugins/plugins/...@v{RELEASE}"
NAME, PROOF = f"cni-plugins-{RELEASE}", "bridge"
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
    """All that stand here: Debian's with iptables, the release with iptables and with nftables."""
    found = [Reference(f"{debian_version()} iptables", DEBIAN, "iptables")]
    release = CACHE / NAME
    if (release / PROOF).exists():
        found += [Reference(f"{RELEASE} {backend}", release, backend) for backend in ("iptables", "nftables")]
    return found


def debian_version() -> str:
    """The version of Debian's package; its plugins tell none."""
    query = ["dpkg-query", "-W", "-f", "${Version}", "containernetworking-plugins"]
    found = subprocess.run(query, capture_output=True, text=True)
    return f"Debian {found.stdout.split('+')[0]}" if found.returncode == 0 else "distribution's"


def prepare() -> str:
    """Build the release on the first use (a minute, and it needs a network); why not, "" when it stands."""
    try:
        built(NAME, MODULE, PROOF)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"the reference plugins {RELEASE} can't be built, so their rows are missing: {error}"
    return ""
