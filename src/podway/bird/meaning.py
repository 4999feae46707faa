"""Why a BGP session is not up, or not as it should be, in words: from BIRD's words and the kernel's counts.
Pure."""

from __future__ import annotations

import re

import msgspec

from podway.bird.replies import SessionState
from podway.model.bgp import Session

OFTEN = 3  # losses in a while that make a session one that comes and goes

#: pattern in "Last error" → what it means, what to do. "Received" is what the peer said.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (
        r"Received: Bad peer AS",
        "it expects another AS than {local_as}, which this node is of: look at what is configured there",
    ),
    (
        r"Received: (Unknown error 6[.]10|.*BFD)",  # RFC 9384
        "its BFD does not hear this node: is UDP port {bfd_port} let through from here to there?",
    ),
    (
        r"Received: Maximum number of prefixes",
        "this node told it more prefixes than it takes: look at its limit, and at what is told to it",
    ),
    (
        r"Received: Hold timer expired",
        "it heard nothing of this node: packets from here to there are lost",
    ),
    (r"Connection refused", "nothing listens on TCP port {port} there: is its BGP speaker running?"),
    (
        r"No route to host|Network is unreachable|Neighbor lost",
        "no way leads to {neighbor}: is it up, and on this segment?",
    ),
    (r"Link down", "this node's link to {neighbor} has no carrier: look at cable, switch port and ip link"),
    (
        r"Connection (closed|reset)",
        "it hung up: its BGP speaker ended, has this session shut down, or does not know {local}",
    ),
    (r"Received: (Administrative reset|Other configuration change)", "its operator reset it: it calls again"),
    (r"Received: .*Out of Resources", "the peer has no memory or place left for routes: look at it"),
    (r"No listening socket", "BIRD can't listen on TCP port {port} of {local}: see its log"),
    (r"Kernel MD5", "this kernel takes no TCP MD5 passwords: see BIRD's log"),
    (r"Connection timed out", "TCP port {port} is blocked underway, or a password differs"),
    (r"Bad peer AS", "it is not of AS {remote_as}, as is declared here; this node is of {local_as}"),
    (r"Unacceptable hold time", "the peer does not take a hold time of {hold} s"),
    (r"Bad BGP identifier|Bad BGP ID", "both sides have one router ID: two nodes share an address"),
    (
        r"Neighbor.*BFD|BFD session down",
        "{neighbor} or the way to it is down; look at its console and cables",
    ),
    (r"[Ll]imit", "it told more than {max_prefixes} prefixes (maxPrefixes)"),
    (r"Administrative shutdown|Administratively", "the peer was shut down by its operator"),
    (r"Peer de-configured|Connection rejected", "the peer does not know {local}: is it configured there?"),
    (r"Authentication", "the password differs, or only one side has one"),
    (r"Required capability|Unsupported", "the peer can't do what is asked of it (address family, AS number)"),
)
_SILENT = "Hold timer expired"
_CLEAR = re.compile("Connection refused|No route to host|Network is unreachable")


class Clues(msgspec.Struct, frozen=True, kw_only=True):
    """What else is known of a session. ``bfd``: the state of its BFD session, "" for none; ``lost``: how
    often it was lost lately; ``known``: it was up, and was lost; ``unsigned``, ``signed``: packets that the
    kernel has dropped lately since a TCP MD5 signature was wrong or missing, or was there where none is
    expected."""

    bfd: str = ""
    lost: int = 0
    known: bool = False
    unsigned: int = 0
    signed: int = 0


def why(session: Session, state: SessionState | None, clues: Clues) -> str:
    """One sentence; "" for a session that is as it should be."""
    if state is None:
        return "BIRD does not know it yet"
    if state.established:
        parts = (_unsteady(session, state, clues), _unwatched(session, clues), _forgetful(session, state))
        return "; ".join(part for part in parts if part)
    if session.password and clues.unsigned:
        dropped = f"{_packets(clues.unsigned)} with a wrong signature or none dropped"
        return f"TCP MD5: {dropped}: the password differs, or isn't set on the peer"
    if not (session.password or session.node) and clues.signed and not _CLEAR.search(state.last_error):
        dropped = f"{_packets(clues.signed)} with a signature dropped"
        return f"TCP MD5: {dropped}: the peer has a password, and none is set here"
    if _SILENT in state.last_error and not state.last_error.startswith("Received"):
        return f"nothing was heard for {session.hold} s (hold): {_no_answer(session, state, clues)}"
    if state.last_error:
        return _told(session, state)
    if session.dynamic:
        return ""  # nobody has called from there yet
    if session.passive:
        return f"{session.neighbor} has not called yet (it opens this session)"
    if state.state == "Idle" and not session.multihop and not clues.known:
        what = f"no link of this node that is up leads to {session.neighbor}: look at ip link and ip address"
        return what + ("" if session.node else ", or, if it is beyond a router, set multihop")
    if session.ttl_security and state.state in ("Active", "Connect"):
        return "no answer: with TTL security both sides must have it, and no router may be between"
    when = "any more" if clues.known else "yet"
    return f"no answer from {session.neighbor} {when} ({state.state}): {_no_answer(session, state, clues)}"


def _packets(number: int) -> str:
    return f"{number} packet{'s' if number != 1 else ''}"


def _told(session: Session, state: SessionState) -> str:
    """BIRD's own words, and what they mean where that is known."""
    told = re.sub("^(Socket: |BGP Error: |Error: )+", "", state.last_error)
    for pattern, words in _MEANINGS:
        if re.search(pattern, state.last_error):
            fields = {name: getattr(session, name) for name in session.__struct_fields__}
            return f"{told}: {words.format(**fields, bfd_port=_bfd_port(session))}"
    return told


def _no_answer(session: Session, state: SessionState, clues: Clues) -> str:
    """What silence may mean, by how far BIRD comes."""
    if state.state in ("OpenSent", "OpenConfirm"):
        whom = session.local or "this node"
        return (
            f"TCP port {session.port} there is open and silent: its BGP speaker hangs, or doesn't know {whom}"
        )
    if clues.bfd == "Up":
        reason = f"TCP port {session.port} is blocked underway, or its BGP speaker hangs"
        return f"BFD hears it, so it is up: {reason}"
    if clues.bfd == "Down" and clues.known:
        return "BFD does not hear it either: it or the way to it is down; look at its console and cables"
    what = f"it or the way to it is down, or TCP port {session.port} is blocked underway"
    return f"{what}; look at its console and cables, and at firewalls between"


def _unsteady(session: Session, state: SessionState, clues: Clues) -> str:
    if clues.lost < OFTEN:
        return ""
    last = f", lastly by: {_told(session, state)}" if state.last_error else ""
    return f"it comes and goes, lost {clues.lost} times in the last minutes{last}"


def _unwatched(session: Session, clues: Clues) -> str:
    """Where BFD is wanted and isn't there, nobody notices a death until the hold time is over."""
    if not session.bfd or clues.bfd in ("", "Up"):
        return ""
    port = _bfd_port(session)
    if clues.bfd == "Init":
        far = " And does it take a TTL of 64 (FRR: minimum-ttl)?" if session.multihop else ""
        found = f"hears it, and it doesn't hear this node: is UDP port {port} let through from here to there?"
        found += far
    else:
        found = f"hears nothing of it: does it speak BFD, and is UDP port {port} let through?"
    return f"BFD {found} Until then its death is noticed after {session.hold} s"


def _forgetful(session: Session, state: SessionState) -> str:
    """Where routes are to be kept while BIRD restarts, and the peer can't."""
    if session.node or session.graceful != "on" or state.keeps:
        return ""
    what = "it drops this node's routes whenever BIRD restarts here: it does no graceful restart (RFC 4724)"
    return f"{what}; switch it on there, or set gracefulRestart: false if that is known"


def _bfd_port(session: Session) -> int:
    """RFC 5881, of more than one hop RFC 5883."""
    return 4784 if session.multihop else 3784
