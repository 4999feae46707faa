"""``tuning``: sysctls of the pod's network, and MAC, MTU, queue length and flags of its interface.

What the interface had before is kept with the piece, and put back by DEL while the pod lives.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from podway.cni import config
from podway.cni.dropin import backup, options
from podway.cni.dropin.ask import Ask
from podway.cni.dropin.frame import Chained
from podway.cni.dropin.ranges import directory
from podway.cni.errors import CONFIGURATION, CniError, wrong
from podway.cni.protocol import Result
from podway.cni.reader import Section, as_text, kind_of
from podway.cni.runtime import mac
from podway.model.dropin import AnyWant, Piece, Tuned
from podway.model.errors import Unavailable
from podway.model.objects import Link

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

ALLOWED = "/etc/cni/tuning/allowlist.conf"  # a regular expression a line; absent, everything is allowed
_SETTINGS = ("mac", "mtu", "txqlen", "promisc", "allmulti")
_LIMIT = 64 * 1024  # bytes of that file


def want(ask: Ask, before: Result) -> Tuned:
    """Raises CniError 7, naming the key."""
    section = ask.section
    directory(section)
    return Tuned(
        sysctls=tuple(sorted(_sysctls(section, ask.me.ifname).items())),
        mac=options.asked_mac(ask) or mac(section) or None,
        mtu=config.mtu(section) or None,
        txqlen=section.maybe_number("txQLen", highest=2**32 - 1),
        promisc=section.flag("promisc", False) or None,
        allmulti=section.flag("allmulti", False) if section.raw("allmulti") is not None else None,
    )


def _sysctls(section: Section, ifname: str) -> dict[str, str]:
    """Path below /proc/sys → value."""
    given = section.raw("sysctl")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise wrong("sysctl", f"must be an object of strings, not {kind_of(given)}")
    allowed = _allowed()
    found = {}
    for key, value in given.items():
        where = f"sysctl.{key}"
        text = as_text(where, value)
        if any(letter in text for letter in "\0\n"):
            raise wrong(where, "a value is one line")
        if allowed is not None and not any(pattern.search(key) for pattern in allowed):
            raise wrong(where, f"is not allowed by {ALLOWED}")
        found[path(where, key, ifname)] = text
    return found


def path(where: str, key: str, ifname: str) -> str:
    """Of "net.ipv4.conf.IFNAME.arp_filter", slashes as in sysctl(8). Raises CniError 7 outside of net."""
    first = next((letter for letter in key if letter in "./"), "")
    plain = key if first == "/" else key.translate(str.maketrans("./", "/."))
    parts = [ifname if part == "IFNAME" else part for part in plain.split("/")]
    if parts[0] != "net" or len(parts) < 2 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise wrong(where, "is no sysctl of the network", "its name starts with net.")
    return "/".join(parts)


def _allowed() -> list[re.Pattern[str]] | None:
    try:
        with open(ALLOWED, encoding="utf-8", errors="replace") as file:
            lines = file.read(_LIMIT).splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CniError(CONFIGURATION, f"{ALLOWED} can't be read: {error.strerror}") from None
    try:
        return [re.compile(line.strip()) for line in lines if line.strip()]
    except re.error as error:
        raise CniError(CONFIGURATION, f"{ALLOWED}: {error} in {error.pattern!r}") from None


def prepare(engine: NodeEngine, ask: Ask, piece: Piece) -> Piece:
    """Note how the interface is now. Raises Unavailable when there is none."""
    assert isinstance(piece.want, Tuned)
    changed = [name for name in _SETTINGS if getattr(piece.want, name) is not None]
    if not changed:
        return piece
    found = engine.kernel.link_inside(ask.call.pod_fd, piece.ifname)
    if found is None:
        raise Unavailable(f"there is no {piece.ifname} in the pod", f"container {piece.container}")
    kept = {name: getattr(found, name) for name in changed}
    before = Link(name=piece.ifname, kind=found.kind, up=None, **kept)
    settled = msgspec.structs.replace(piece.want, kind=found.kind, before=before)
    return msgspec.structs.replace(piece, want=settled)


def result(ask: Ask, before: Result, made: AnyWant | None) -> Result:
    """With the MAC that the interface has now."""
    if not isinstance(made, Tuned) or made.mac is None:
        return before
    interfaces = tuple(
        msgspec.structs.replace(one, mac=made.mac) if one.name == ask.me.ifname else one
        for one in before.interfaces
    )
    return msgspec.structs.replace(before, interfaces=interfaces)


PLUGIN = Chained("tuning", want, prepare, result, backup.put_back)
