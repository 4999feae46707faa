"""What a BGP speaker is told, as frozen values: the planner makes them, ``bird`` renders them.

Every text in here reaches a configuration file of BIRD, which has no escape for a quote: ``check_text`` says
what can't be told.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import msgspec

from podway.model.objects import Route

#: routes that BIRD programs have this metric: an operator's own BIRD, whose default is 32, and Podway's
#: leave each other's alone, and whatever the agent programs itself comes first (IPv6's 1024 included)
METRIC = 2048

PROTOCOL = 12  # RTPROT_BIRD, linux/rtnetlink.h

MAX_PASSWORD = 80  # TCP_MD5SIG_MAXKEYLEN, include/uapi/linux/tcp.h
_PLAIN = re.compile(r"[\x20\x21\x23-\x7e]*")  # printable ASCII but the quote

Bfd = Literal["", "on", "graceful"]
Graceful = Literal["on", "aware", "off"]


class PrefixMatch(msgspec.Struct, frozen=True):
    """Prefixes within ``cidr`` whose length is ``low`` to ``high``."""

    cidr: str
    low: int
    high: int

    @property
    def text(self) -> str:
        return f"{self.cidr}{{{self.low},{self.high}}}"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a filter: when all that is given holds, set what is given, and accept or reject.

    ``communities`` (any of them) and ``add`` are "A:B" standard (RFC 1997) or "A:B:C" large (RFC 8092)."""

    accept: bool
    prefixes: tuple[PrefixMatch, ...] = ()
    communities: tuple[str, ...] = ()
    as_path_has: int = 0
    local_pref: int | None = None
    prepend: int = 0  # times the own AS is put in front
    add: tuple[str, ...] = ()


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One BGP session. ``neighbor`` is an address, or a prefix when ``dynamic``.

    Times are seconds. ``multihop`` 0 is a direct session. ``node``: the peer is a node of the cluster, whose
    own blocks are taken in without a rule."""

    name: str
    neighbor: str
    remote_as: int
    local_as: int
    description: str = ""
    local: str = ""
    port: int = 179
    dynamic: bool = False
    passive: bool = False
    multihop: int = 0
    password: str = ""
    hold: int = 90
    keepalive: int = 30
    bfd: Bfd = ""
    ttl_security: bool = False
    graceful: Graceful = "on"
    restart_time: int = 120
    next_hop_self: bool = False
    extended_next_hop: bool = False
    max_prefixes: int = 0
    ipv4: bool = False
    ipv6: bool = False
    node: bool = False
    imports: tuple[Rule, ...] = ()
    exports: tuple[Rule, ...] = ()


class Speaker(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration of one node's BIRD.

    ``port`` is listened on at every address, ``strict``: at those alone that sessions speak from.
    ``own``: this node's blocks, and what it has borrowed; ``lent``: addresses of its blocks that other nodes
    have borrowed, and announce; ``advertised``: further prefixes that it announces; ``pools``: prefixes of
    the cluster, all that nodes tell; ``outside``: what others may tell without a rule. ``draining``:
    announced with the graceful shutdown community (RFC 8326). ``reflector``: tells nodes what nodes have
    told it (RFC 4456)."""

    router_id: str
    port: int = 179
    strict: bool = False
    uplinks: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    lent: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    outside: tuple[PrefixMatch, ...] = ()
    advertised: tuple[str, ...] = ()
    reflector: bool = False
    draining: bool = False
    sessions: tuple[Session, ...] = ()


def is_learned(route: Route) -> bool:
    """Whether Podway's BIRD, and nobody else's, programmed a route."""
    return route.protocol == PROTOCOL and route.metric == METRIC


def check_text(text: str, longest: int = 255) -> str:
    """What keeps a text from standing between quotes in BIRD's configuration, "" for nothing."""
    if len(text) > longest:
        return f"is longer than {longest} characters"
    if not _PLAIN.fullmatch(text):
        return "holds a quote, a line break or something that is not ASCII, which BIRD can't be told"
    return ""


def symbol(prefix: str, name: str) -> str:
    """A name that BIRD takes for a protocol: letters, digits, underscores; the same for the same ``name``.

    Of a long name the beginning is shown; the digest is long enough that those of a cluster never meet.
    BIRD takes 64 characters (SYM_MAX_LEN), with "out_" before it or a caller's number behind."""
    plain = re.sub(r"[^A-Za-z0-9]", "_", name)
    return f"{prefix}_{plain[:36]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
