"""The types of the CNI contract: one call, one answer, and what a result says. No I/O.

Read ``plugin.py`` next: it turns a Call into an Answer.
"""

from __future__ import annotations

import msgspec

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
OLDEST = VERSIONS[0]  # what a configuration without cniVersion means

#: command → the version that introduced it; the others exist since ever.
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def at_least(version: str, other: str) -> bool:
    """Whether supported ``version`` is ``other`` or newer."""
    return VERSIONS.index(version) >= VERSIONS.index(other)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of the plugin. Text that is no UTF-8 has surrogate escapes (PEP 383).

    ``env``: the CNI_* variables. Descriptors are -1 when absent and are owned by whoever made the
    Call, who keeps them open until the answer: ``caller_fd`` is the caller's network namespace,
    ``pod_fd`` what CNI_NETNS opened to, ``pod_errno`` why it did not.
    """

    argv0: str = "podway-cni"
    env: dict[str, str] = {}
    path: str = ""
    stdin: bytes = b""
    caller_fd: int = -1
    pod_fd: int = -1
    pod_errno: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What the executable does: print ``stdout`` (one JSON document or nothing) and exit."""

    exit_code: int
    stdout: bytes = b""


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """A link in a result; ``sandbox`` "" is the host. ``mtu`` 0, and other empty fields, are left out."""

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An address with its prefix length; ``interface`` indexes the result's interfaces."""

    address: str
    gateway: str = ""
    interface: int | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route; the last five fields exist since 1.1.0."""

    dst: str
    gw: str = ""
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


class Dns(msgspec.Struct, frozen=True, kw_only=True):
    """Resolver settings that the runtime may write into the container."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What an ADD made, in no version's shape; ``result.py`` knows the shapes."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: Dns = Dns()


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose interface it is, from the environment. ``namespace`` is CNI_NETNS, verbatim."""

    container: str
    ifname: str
    namespace: str = ""
