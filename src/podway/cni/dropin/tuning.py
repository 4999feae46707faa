"""``tuning``: sysctls of the pod's network, and MAC, MTU, queue length and flags of its interface.

What the interface had before is kept with the piece, and put back by DEL while the pod lives.
"""

from __future__ import annotations

import functools
import json
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
from podway.model.objects import Link, Sysctl
from podway.plan.dropin import tuning

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine

ALLOWED = "/etc/cni/tuning/allowlist.conf"  # a regular expression a line; absent, everything is allowed
_LIMIT = 64 * 1024  # bytes of that file


def want(ask: Ask, before: Result) -> Tuned:
    """Each setting as ``args.cni`` has it, else the configuration. Raises CniError 7, naming the key."""
    section, asked = ask.section, ask.section.section("args").section("cni")
    directory(section)
    sysctls = _sysctls(section, ask.me.ifname)
    if sysctls:
        _refuse_twice(ask.call.stdin)
    told = options.asked_mac(ask) or mac(section)

    def of(key: str) -> Section:
        return section if asked.raw(key) is None else asked

    return Tuned(
        sysctls=tuple(sorted((sysctls | _sysctls(asked, ask.me.ifname)).items())),
        mac=(mac(asked) if of("mac") is asked else told) or None,  # of args.cni before runtimeConfig
        mtu=config.mtu(of("mtu")) or None,
        txqlen=of("txQLen").maybe_number("txQLen", highest=2**32 - 1),
        promisc=of("promisc").flag("promisc", False) or None,
        allmulti=None if of("allmulti").raw("allmulti") is None else of("allmulti").flag("allmulti", False),
    )


def _refuse_twice(stdin: bytes) -> None:
    """Of two equal keys of ``sysctl`` the decoder has kept the last, and it isn't said which was meant."""
    whole = msgspec.json.decode(stdin, type=dict[str, msgspec.Raw])
    written = [bytes(value).strip() for key, value in whole.items() if key.lower() == "sysctl"]
    objects = [json.loads(one, object_pairs_hook=list) for one in written if one.startswith(b"{")]
    keys = [key for one in objects for key, _ in one]
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise wrong(f"sysctl.{twice}", "is there twice")


def _sysctls(section: Section, ifname: str) -> dict[str, str]:
    """Path below /proc/sys → value."""
    given, at = section.raw("sysctl"), section.at("sysctl")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise wrong(at, f"must be an object of strings, not {kind_of(given)}")
    allowed = _allowed()
    found = {}
    for key, value in given.items():
        where = f"{at}.{key}"
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
    """Note how interface and sysctls are now. Raises CniError 7, Unavailable when there is no interface."""
    assert isinstance(piece.want, Tuned)
    want = _noted(engine, ask, piece.want)
    changed = [name for name in tuning.SETTINGS if getattr(want, name) is not None]
    if changed:
        found = engine.kernel.link_inside(ask.call.pod_fd, piece.ifname)
        if found is None:
            raise Unavailable(f"there is no {piece.ifname} in the pod", f"container {piece.container}")
        if want.mac and not int((found.mac or "0").replace(":", ""), 16):
            raise wrong("mac", f"{piece.ifname} has none that could be changed")
        kept = {name: getattr(found, name) for name in changed}
        before = Link(name=piece.ifname, kind=found.kind, up=None, **kept)
        want = msgspec.structs.replace(want, kind=found.kind, before=before)
    return msgspec.structs.replace(piece, want=want)


def _noted(engine: NodeEngine, ask: Ask, want: Tuned) -> Tuned:
    if not want.sysctls:
        return want
    wanted = [Sysctl(path=path, value=value) for path, value in want.sysctls]
    there = engine.kernel.look_up_inside(ask.call.pod_fd, wanted)
    found = tuple((one.path, one.value) for one in there.values() if isinstance(one, Sysctl))
    return msgspec.structs.replace(want, found=found)


def result(ask: Ask, before: Result, made: AnyWant | None) -> Result:
    """With the MAC that the interface has now."""
    if not isinstance(made, Tuned) or made.mac is None:
        return before
    interfaces = tuple(
        msgspec.structs.replace(one, mac=made.mac) if one.name == ask.me.ifname else one
        for one in before.interfaces
    )
    return msgspec.structs.replace(before, interfaces=interfaces)


def checked(turns: list[Piece]) -> list[Piece]:
    """For CHECK: as all of them left it. Where none switches promiscuous mode on, it is off, as the
    reference's wants it."""
    want = functools.reduce(tuning.over, (one.want for one in turns if isinstance(one.want, Tuned)))
    want = msgspec.structs.replace(want, promisc=bool(want.promisc))
    return [msgspec.structs.replace(turns[-1], want=want)]


PLUGIN = Chained("tuning", want, prepare, result, backup.put_back, checked=checked, repeats=True)
