"""What a node's agent found out of its peers, as a table and as checks of ``podway doctor``."""

from __future__ import annotations

from collections.abc import Iterator

from podway.agent.reports import PathReport, PeerPath, PeerReport
from podway.kernel.preflight import Check
from podway.model.errors import Unavailable
from podway.model.objects import family_of
from podway.observe import client
from podway.observe.words import ago

COLUMNS = ["NAME", "VERDICT", "SINCE", "PATH", "REASON"]
WIDE = ["NAME", "VERDICT", "SINCE", "PATH", "TARGET", "FOUND", "MTU", "RTT", "LAST ANSWER"]
WIDE += ["CHOSEN", "LAST PROOF", "WHY THIS PATH"]


def checks(path: str) -> list[Check]:
    """A warning for each peer that something is wrong with; nothing while no agent answers at ``path``."""
    try:
        found = client.peers(path)
    except Unavailable:
        return []
    bad = [peer for peer in found if peer.verdict not in ("ok", "unknown")]
    made = [Check(f"peer {peer.name}", "warning", f"{peer.title}: {peer.reason}", peer.fix) for peer in bad]
    well = sum(peer.verdict == "ok" for peer in found)
    return (
        [*made, Check("peers", "ok", f"{well} of {len(found)} answer by every path that stands")]
        if found
        else made
    )


def rows(peers: list[PeerReport], choices: list[PeerPath], wide: bool) -> list[list[str]]:
    """Lines of the table; wide: one for each path."""
    chosen: dict[str, dict[tuple[str, int], PeerPath]] = {}
    for one in choices:
        chosen.setdefault(one.peer, {})[one.network, one.family] = one
    found = ((peer, chosen.get(peer.name, {})) for peer in peers)
    if not wide:
        return [_summary(peer, own) for peer, own in found]
    return [
        [peer.name, peer.title, ago(peer.since), *line] for peer, own in found for line in _paths(peer, own)
    ]


def _summary(peer: PeerReport, chosen: dict[tuple[str, int], PeerPath]) -> list[str]:
    path = "+".join(sorted({one.path for one in chosen.values()})) or "-"
    # what is left to wish for comes first
    reasons = sorted(chosen.values(), key=lambda one: (one.path == "direct", one.path == "tunnel"))
    why = reasons[0].reason if reasons else "-"
    return [peer.name, peer.title, ago(peer.since), path, peer.reason or why]


def _paths(peer: PeerReport, chosen: dict[tuple[str, int], PeerPath]) -> Iterator[list[str]]:
    """What is probed, each with why it is the path; then what isn't probed."""
    for path in peer.paths:
        one = chosen.pop((path.network, family_of(path.target)), None) if path.network else None
        yield _probed(path) + _chosen(one)
    for one in chosen.values():
        yield [f"{one.network} {one.path}", "-", "-", str(one.mtu or "-"), "-", "-", *_chosen(one)]
    if not peer.paths and not chosen:
        yield ["-"] * 9


def _chosen(one: PeerPath | None) -> list[str]:
    if one is None:
        return ["-"] * 3
    doubt = f"; but now {one.trouble}" if one.trouble and one.path == "direct" else ""
    return [ago(one.since), ago(one.last_probe), one.reason + doubt]


def _probed(path: PathReport) -> list[str]:
    how = f"tunnel, {path.carrier}" if path.carrier else "direct"
    name = f"{path.network} {how}" if path.network else path.layer
    mtu = f"{path.mtu or '?'} of {path.expected_mtu}" if path.mtu != path.expected_mtu else str(path.mtu)
    rtt = f"{path.milliseconds:.1f} ms" if path.answered else "-"
    met = f", handshake {ago(path.handshake)} ago" if path.handshake else ", no handshake yet"
    found = path.finding + (met if path.handshake is not None else "")
    return [name, path.target, found, mtu, rtt, ago(path.answered)]
