"""Who is reached from where, and with which address the server saw the client."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from machine import Machine

OUTSIDE = "198.51.100.1"
NODE = "198.51.100.2"
_ENTER = ("ip", "netns", "exec", "outside")


def url(host: str, port: int = 80) -> str:
    """Of the page that tells the client's address (``images.SEEN``)."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/cgi-bin/seen"


def seen(text: str) -> str:
    """busybox prints "[::ffff:10.0.0.1]" for an IPv4 client of its IPv6 socket."""
    found = ipaddress.ip_address(text.strip().strip("[]"))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def asked(text: str) -> str:
    """The address in nslookup's answer: the client's, as the name server saw it (``images.busybox``)."""
    return text.split("Name:")[1].split("Address:")[1].split()[0]


def heard(ask: Callable[[], str]) -> bool:
    """Whether anything was answered."""
    try:
        return bool(ask())
    except AssertionError:
        return False


def from_machine(machine: Machine, host: str, port: int = 80) -> str:
    """The client's address, asked from the machine's own namespace. Raises AssertionError."""
    return seen(machine.run("timeout", "5", "busybox", "wget", "-qO-", url(host, port)))


def from_outside(machine: Machine, host: str, port: int = 80) -> str:
    """The same, asked from the host beyond the uplink."""
    return seen(machine.run(*_ENTER, "timeout", "5", "busybox", "wget", "-qO-", url(host, port)))


def name_from_outside(machine: Machine, server: str) -> str:
    """The client's address as a name server in a pod saw it, asked from beyond the uplink by UDP."""
    return asked(machine.run(*_ENTER, "timeout", "5", "busybox", "nslookup", "-type=a", "me.test", server))
