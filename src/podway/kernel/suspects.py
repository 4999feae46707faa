"""Who could have changed a link: the kernel's events of links and forwarding entries carry no sender.

Network managers keep a route netlink socket open, whose port is by habit their process's number; those of
this network namespace are listed in /proc/net/netlink.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection

ROUTE = "0"  # NETLINK_ROUTE

#: process name, as the kernel keeps it (15 characters) → how to have it leave a link alone
REMEDIES = {
    "systemd-network": "a .network file that matches it with Unmanaged=yes, ManageForeignRoutes=no in "
    "networkd.conf, MACAddressPolicy=none in a .link file",
    "NetworkManager": "[keyfile] unmanaged-devices=interface-name:pw* in NetworkManager.conf",
    "connmand": "NetworkInterfaceBlacklist=pw in main.conf",
    "dhcpcd": "denyinterfaces pw* in dhcpcd.conf",
    "flanneld": "one of the two pod networks has to go",
    "calico-node": "one of the two pod networks has to go",
}


def managers(own: Collection[int]) -> list[tuple[str, str]]:
    """("name[pid]", remedy or "") of the other processes that hold a route socket in this namespace.

    ``own``: netlink ports of this process."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        with open("/proc/thread-self/net/netlink") as sockets:
            for line in list(sockets)[1:]:
                _, family, port, *_ = line.split()
                if family != ROUTE or int(port) in (*own, os.getpid()):
                    continue
                name = _name(port)
                if name:
                    found[f"{name}[{port}]"] = REMEDIES.get(name, "")
    return sorted(found.items())


def _name(process: str) -> str:
    try:
        with open(f"/proc/{process}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def sentence(own: Collection[int]) -> str:
    """Who could be it, and what to do."""
    found = managers(own)
    if not found:
        return "; the kernel doesn't say by whom"
    listed = ", ".join(name for name, _ in found)
    fixes = [f"; {name} leaves it alone with {remedy}" for name, remedy in found if remedy]
    return f"; the kernel doesn't say by whom, but here {listed} could{''.join(fixes)}"
