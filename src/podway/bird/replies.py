"""What BIRD's control socket says, as values. Pure: text in, values out.

A reply is lines "CODE-text", continued by lines that begin with a space, and ends with "CODE text". Codes
from 8000 up are errors (doc/reply_codes of BIRD). Anything that isn't understood is left out: a later
version may say more.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

PROTOCOL, BFD = 1002, 1020


class Line(NamedTuple):
    """``code`` is that of the line that it continues, where it does."""

    code: int
    text: str


class Standing(NamedTuple):
    """What a session is ("Established", "Active"), and ``since`` when its protocol is up, or is not: seconds
    of the wall clock, 0 where BIRD says it in another form than ``bird.conf.j2`` asks for."""

    state: str
    since: float = 0.0


class Counts(msgspec.Struct, frozen=True):
    """Routes of one channel."""

    imported: int = 0
    filtered: int = 0
    exported: int = 0
    preferred: int = 0


class SessionState(msgspec.Struct, frozen=True, kw_only=True):
    """One BGP protocol. ``state`` and ``since``: as of ``Standing``; ``keeps``: the peer can keep routes of a
    side that restarts (RFC 4724)."""

    name: str
    state: str
    since: float = 0.0
    neighbor: str = ""
    remote_as: int = 0
    neighbor_id: str = ""
    last_error: str = ""
    keeps: bool = False
    channels: dict[str, Counts] = {}

    @property
    def established(self) -> bool:
        return self.state == "Established"


class BfdState(msgspec.Struct, frozen=True, kw_only=True):
    """One BFD session; ``interval`` and ``timeout`` in seconds."""

    address: str
    interface: str
    state: str
    since: str
    interval: float
    timeout: float


class BgpRoute(msgspec.Struct, frozen=True, kw_only=True):
    """A route that a session brought. ``best``: it is the one in use."""

    prefix: str
    session: str
    via: tuple[str, ...] = ()
    best: bool = False
    as_path: str = ""
    communities: str = ""
    local_pref: str = ""


def lines(reply: str) -> list[Line]:
    """A whole reply, without its welcome and its end."""
    found: list[Line] = []
    for raw in reply.splitlines():
        match = re.match(r"(\d{4})([- ])(.*)", raw)
        if match is None:
            text = raw[1:] if raw[:1] in " +" else raw
            if found:
                found.append(Line(found[-1].code, text))
        elif match[1] not in ("0000", "0001"):
            found.append(Line(int(match[1]), match[3]))
    return found


_ERROR = re.compile(r"^[89]\d{3}[- ](.*)", re.MULTILINE)


def error_of(reply: str) -> str:
    """The text of an error in a reply, "" for none."""
    found = _ERROR.search(reply)
    return found[1] if found else ""


def sessions(reply: str) -> list[SessionState]:
    """BGP protocols of "show protocols all"."""
    found: list[SessionState] = []
    current: list[str] = []
    for line in [*lines(reply), Line(PROTOCOL, "")]:
        if line.code == PROTOCOL and not line.text.startswith(" "):
            if current and current[0].split()[1:2] == ["BGP"]:
                found.append(_session(current))
            current = [line.text] if line.text else []
        elif current:
            current.append(line.text)
    return found


_STANDING = re.compile(r"^(?:1002-| )(\S+) +BGP +\S+ +(\S+) +(\S+)(?: +(\S+))?", re.MULTILINE)


@functools.lru_cache(1)
def standings(reply: str) -> Mapping[str, Standing]:
    """Of every BGP protocol of "show protocols", by name. Asked every other second, of hundreds of sessions,
    and mostly the answer is the last one's: so without ``lines``, and remembered."""
    return {
        name: Standing(words or state.capitalize(), _seconds(since))
        for name, state, since, words in _STANDING.findall(reply)
    }


def _seconds(text: str) -> float:
    """ISO 8601 with its offset → seconds of the wall clock."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return at.timestamp() if at.tzinfo is not None else 0.0


_FIELDS = {
    "BGP state": "state",
    "Neighbor address": "neighbor",
    "Neighbor AS": "remote_as",
    "Neighbor ID": "neighbor_id",
    "Last error": "last_error",
}


def _session(texts: list[str]) -> SessionState:
    head = texts[0].split(maxsplit=5)
    values: dict[str, str] = {}
    channels: dict[str, Counts] = {}
    channel = side = ""
    keeps = False
    for text in (text.strip() for text in texts[1:]):
        key, colon, value = text.partition(":")
        if text.endswith(" capabilities"):
            side = text.split()[0]
        elif text == "Graceful restart":
            keeps = keeps or side == "Neighbor"
        if text.startswith("Channel "):
            channel = text.split()[1]
            channels[channel] = Counts()
        elif colon and channel and key == "Routes":
            counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", value)}
            channels[channel] = msgspec.convert(counts, Counts)
        elif colon and key in _FIELDS and not channel:
            values.setdefault(_FIELDS[key], value.strip())
    number = re.match(r"\d+", values.pop("remote_as", "0"))
    return SessionState(
        name=head[0],
        since=_seconds(head[4]) if len(head) > 4 else 0.0,
        remote_as=int(number[0]) if number else 0,
        keeps=keeps,
        channels=channels,
        **({"state": head[3]} | values),
    )


_KEEPING = re.compile(r"^(?:1002-| )(\S+) +BGP |^(?:1006-| ) +Neighbor graceful restart active", re.MULTILINE)


def keeping(reply: str) -> list[str]:
    """BGP protocols of "show protocols all" that keep the routes of a neighbour that restarts."""
    found, name = [], ""
    for match in _KEEPING.finditer(reply):
        if match[1]:
            name = match[1]
        else:
            found.append(name)
    return found


def bfd(reply: str) -> list[BfdState]:
    """Sessions of "show bfd sessions"."""
    found = []
    for line in lines(reply):
        match = re.match(
            r"\s*(\S+)\s+(\S+)\s+(Up|Down|Init|AdminDown)\s+(\S+)\s+([\d.]+)\s+([\d.]+)", line.text
        )
        if line.code == BFD and match:
            address, interface, state, since, interval, timeout = match.groups()
            found.append(
                BfdState(
                    address=address,
                    interface=interface,
                    state=state,
                    since=since,
                    interval=float(interval),
                    timeout=float(timeout),
                )
            )
    return found


_ROUTE = re.compile(r"(\S+/\d+)?\s+\w+ \[(\S+) [^\]]*\](.*)")
_ATTRIBUTES = {
    "as_path": "as_path",
    "path": "as_path",  # of BIRD 3
    "community": "communities",
    "large_community": "communities",
    "local_pref": "local_pref",
}


def routes(reply: str) -> list[BgpRoute]:
    """Routes of "show route all" that BGP brought."""
    found: list[dict[str, object]] = []
    prefix = ""
    for line in lines(reply):
        text = line.text
        match = _ROUTE.match(text)
        if match:
            prefix = match[1] or prefix
            found.append({"prefix": prefix, "session": match[2], "best": "*" in match[3], "via": ()})
        elif found and text.strip().startswith("via "):
            found[-1]["via"] = (*found[-1]["via"], text.split()[1])  # type: ignore[misc]
        elif found:
            key, colon, value = text.strip().partition(":")
            name = _ATTRIBUTES.get(re.sub("^BGP[.]|^bgp_", "", key))
            if key in ("Type", "source"):  # the second in BIRD 3
                found[-1]["bgp"] = value.split()[:1] == ["BGP"]
            elif colon and name is not None:
                before = found[-1].get(name, "")
                found[-1][name] = f"{before} {value.strip()}".strip()
    return [msgspec.convert(one, BgpRoute) for one in found if one.pop("bgp", False)]
