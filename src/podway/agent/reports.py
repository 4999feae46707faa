"""What an agent tells of itself and of its peers: the shapes of its pages.

For those who ask it too, and so without what it runs by, whose import was half of such a command's time.
"""

from __future__ import annotations

import msgspec

from podway.agent.sessions import BgpStatus
from podway.controller.controller import Lease
from podway.plan.path import Choice


class AgentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``problems``: what is wanted and isn't so, each with the reason and what to do."""

    node: str
    version: str
    uptime: float
    store: str  # "synced", or why not
    endpoints: int
    blocks: tuple[str, ...]
    borrowed: tuple[str, ...] = ()  # single addresses of other nodes' blocks
    problems: tuple[str, ...]
    changing: tuple[str, ...]  # networks on their way from one setting to another, and whom they wait for
    desired: int
    programmed: int
    ready: bool
    readiness: str  # in a sentence: what is missing until ready, who didn't answer when it turned so
    peers: dict[str, int]  # verdict → how many peers
    failing: tuple[str, ...]  # a sentence for each peer that something is wrong with
    suspect: tuple[str, ...]  # nodes whose agents aren't heard of in the store
    bgp: BgpStatus
    probes: dict[str, int]  # "sent", "answered", "refused", "damaged", "foreign"
    drop_in: int = 0  # pods' interfaces that came by the reference plugins' names
    controller: Lease = Lease()  # who acts for the cluster, and what was done
    paths: dict[str, int] = {}  # "direct", "tunnel", "none" → how many, by peer, network and family


class PathReport(msgspec.Struct, frozen=True, kw_only=True):
    """One path as ``podway get peers -o json`` shows it. ``mtu``: what passes, 0 = not known.

    ``handshake``: when WireGuard's was last, in seconds since 1970; 0: never, None: it is another tunnel."""

    layer: str
    network: str
    target: str
    carrier: str
    finding: str
    mtu: int
    expected_mtu: int
    milliseconds: float  # of the last answer's way there and back
    answered: float  # when, 0 = never
    handshake: int | None = None


class PeerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One peer. ``since`` and times in seconds since 1970."""

    name: str
    verdict: str
    title: str
    reason: str
    fix: str
    since: float
    paths: tuple[PathReport, ...]


class PeerPath(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's blocks of one family in one network. Times are seconds since the epoch, 0: never.

    ``mtu`` is of the link that packets leave by, 0 without a path. ``address``, ``dev`` and ``macs`` are
    what direct needs: the peer's address, the uplink on its segment, what the peer publishes."""

    peer: str
    network: str
    family: int
    path: Choice
    reason: str
    since: float
    mtu: int = 0
    blocks: tuple[str, ...] = ()
    address: str = ""
    dev: str = ""
    macs: tuple[str, ...] = ()
    last_probe: float = 0.0
    probe_ms: float = 0.0
    trouble: str = ""
