"""Who changed something in the kernel, as far as the kernel says."""

from __future__ import annotations

from podway.model.objects import AnyObject, Route, Sysctl


def _process(portid: int) -> str:
    """A netlink socket's port is by habit its process's number."""
    try:
        with open(f"/proc/{portid}/comm") as file:
            return f"{file.read().strip()}[{portid}]"
    except OSError:
        return f"a process that has ended (netlink port {portid})"


def of(portid: int, value: AnyObject | None) -> str:
    """ "ip[4711]", with the route protocol where the change carries one."""
    if isinstance(value, Sysctl):
        return "a process that wrote to /proc/sys"
    who = _process(portid) if portid else "the kernel"
    if isinstance(value, Route):
        return f"{who}, route protocol {value.protocol}"
    return who
