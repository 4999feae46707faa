"""Why a BGP session is not up, in words: from what BIRD says of it and what the kernel counted. Pure."""

from __future__ import annotations

import re

from podway.bird.replies import SessionState
from podway.model.bgp import Session

#: pattern in "Last error" → what it means, what to do
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"Connection refused", "nothing listens on TCP port {port} there: is its BGP speaker running?"),
    (
        r"No route to host|Network is unreachable",
        "no way leads to {neighbor}: is it up, and on this segment?",
    ),
    (
        r"Connection timed out|Connection reset",
        "TCP port {port} is blocked underway, or a password differs",
    ),
    (r"Bad peer AS", "the AS differs: this side expects {remote_as} there and is {local_as} itself"),
    (r"Hold timer expired", "nothing was heard for {hold} s: the peer, or the way to it, is down"),
    (r"Unacceptable hold time", "the peer does not take a hold time of {hold} s"),
    (r"Bad BGP identifier|Bad BGP ID", "both sides have one router ID: two nodes share an address"),
    (
        r"Neighbor.*BFD|BFD session down",
        "BFD lost it: {neighbor} or the way to it is down; look at its console and cables",
    ),
    (r"Maximum Number of Prefixes|[Ll]imit", "it told more than {max_prefixes} prefixes (maxPrefixes)"),
    (r"Administrative shutdown|Administratively", "the peer was shut down by its operator"),
    (r"Peer de-configured|Connection rejected", "the peer does not know {local}: is it configured there?"),
    (r"Authentication", "the password differs, or only one side has one"),
    (r"Required capability|Unsupported", "the peer can't do what is asked of it (address family, AS number)"),
)


def why(session: Session, state: SessionState | None, md5: int) -> str:
    """One sentence; "" for a session that is up. ``md5``: packets of a wrong or missing TCP MD5 signature
    that the kernel has dropped lately."""
    if state is not None and state.established:
        return ""
    if state is None:
        return "BIRD does not know it yet"
    if md5:
        return (
            f"TCP MD5: {md5} packets had a wrong or no signature: the password differs, or one side has none"
        )
    for pattern, words in _MEANINGS:
        if re.search(pattern, state.last_error):
            fields = {name: getattr(session, name) for name in session.__struct_fields__}
            told = state.last_error.removeprefix("Socket: ").removeprefix("Error: ")
            return f"{told}: {words.format(**fields)}"
    if state.last_error:
        return state.last_error
    if session.passive and not session.dynamic:
        return f"{session.neighbor} has not called yet (it opens this session)"
    if session.ttl_security and state.state in ("Active", "Connect"):
        return "no answer: with TTL security both sides must have it, and no router may be between"
    return f"no answer from {session.neighbor} yet: {state.state}"
