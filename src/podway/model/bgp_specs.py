"""What people declare of BGP: BGPConfiguration, BGPPeer, BGPFilter, BGPAdvertisement.

Names and meanings are near Calico's, where Calico has them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from podway.model.spec import Spec

Failover = Literal["fast", "hitless", "both"]
DEFAULT_AS = 64512  # RFC 6996: the first AS number for private use


class ReflectorsSpec(Spec, frozen=True, kw_only=True):
    """Which nodes reflect routes where not every node speaks with every other (RFC 4456)."""

    selector: Annotated[str, Meta(description="Labels of the nodes that do; empty: Podway chooses.")] = ""
    count: Annotated[int, Meta(description="How many Podway chooses.")] = 2
    spread: Annotated[
        str, Meta(description="A node label; those chosen differ in it where they can, such as rack.")
    ] = ""


class BGPConfigurationSpec(Spec, frozen=True, kw_only=True):
    """How the nodes speak BGP with each other. Its name is default."""

    as_number: Annotated[int, Meta(description="The nodes' AS, 1 to 4294967294.")] = DEFAULT_AS
    port: Annotated[int, Meta(description="TCP port that nodes listen on.")] = 179
    listen: Annotated[
        Literal["all", "node"],
        Meta(
            description="Where: at every address; node: at the node's own alone, "
            "so that another speaker can have the port at others of the machine."
        ),
    ] = "all"
    mesh: Annotated[
        Literal["auto", "on", "off"],
        Meta(description="Every node with every other; auto: up to meshLimit nodes, reflectors above it."),
    ] = "auto"
    mesh_limit: Annotated[int, Meta(description="With mesh auto, the largest full mesh.")] = 100
    reflectors: Annotated[ReflectorsSpec, Meta(description="Route reflectors.")] = ReflectorsSpec()
    failover: Annotated[
        Failover,
        Meta(
            description="fast: a dead node is noticed in 0.3 s (BFD), a restarted BIRD interrupts for 1 s. "
            "hitless: restarts interrupt nothing, a dead node is noticed after hold. "
            "both: agents ask a node that BFD lost whether it lives; of BGPPeers, those of software frr."
        ),
    ] = "hitless"
    hold: Annotated[int, Meta(description="Seconds without a sign of life until a session ends.")] = 9
    keepalive: Annotated[int, Meta(description="Seconds between signs of life.")] = 3
    restart_time: Annotated[
        int, Meta(description="Seconds that peers keep a restarting node's routes (RFC 4724).")
    ] = 120


class BGPPeerSpec(Spec, frozen=True, kw_only=True):
    """A speaker that is no node of the cluster: a top-of-rack router, a reflector, a firewall."""

    as_number: Annotated[int, Meta(description="The peer's AS, 1 to 4294967294.")]
    peer_address: Annotated[str, Meta(description="The peer's address.")] = ""
    peer_range: Annotated[
        str, Meta(description="Instead of an address: a prefix from which peers may call.")
    ] = ""
    port: Annotated[int, Meta(description="The peer's TCP port.")] = 179
    node_selector: Annotated[str, Meta(description="Labels of the nodes that speak with it; empty: all.")] = (
        ""
    )
    local_as: Annotated[int, Meta(description="The AS that it is told; 0: the nodes' own.")] = 0
    password: Annotated[str, Meta(description="TCP MD5 password (RFC 2385), up to 80 characters.")] = ""
    multihop: Annotated[int, Meta(description="Routers between, plus one; 0: on the same segment.")] = 0
    ttl_security: Annotated[bool, Meta(description="Take packets only of the nearest hop (RFC 5082).")] = (
        False
    )
    hold: Annotated[int, Meta(description="Seconds, 0 for the nodes' own.")] = 0
    keepalive: Annotated[int, Meta(description="Seconds, 0 for the nodes' own.")] = 0
    bfd: Annotated[bool, Meta(description="Watch it by BFD (RFC 5880).")] = False
    next_hop_self: Annotated[
        bool, Meta(description="Tell one's own address as next hop of all that is told.")
    ] = False
    extended_next_hop: Annotated[bool, Meta(description="IPv4 routes with IPv6 next hops (RFC 8950).")] = (
        False
    )
    graceful_restart: Annotated[bool, Meta(description="Keep its routes while it restarts.")] = True
    max_prefixes: Annotated[int, Meta(description="End the session when it tells more; 0: 10000.")] = 0
    passive: Annotated[bool, Meta(description="Wait for its call.")] = False
    filters: Annotated[tuple[str, ...], Meta(description="Names of BGPFilters, applied in order.")] = ()
    software: Annotated[
        Literal["", "frr"], Meta(description="What runs there, where that matters (see failover).")
    ] = ""


class PrefixSpec(Spec, frozen=True, kw_only=True):
    """Prefixes within one, by their length."""

    cidr: Annotated[str, Meta(description="The prefix.")]
    min: Annotated[int | None, Meta(description="Least length; the prefix's own.")] = None
    max: Annotated[int | None, Meta(description="Greatest length; the prefix's own.")] = None


class RuleSpec(Spec, frozen=True, kw_only=True):
    """When all that is given holds, what is given is set, and the route accepted or rejected."""

    action: Annotated[Literal["accept", "reject"], Meta(description="What becomes of the route.")]
    prefixes: Annotated[tuple[PrefixSpec, ...], Meta(description="It is one of these.")] = ()
    communities: Annotated[
        tuple[str, ...], Meta(description="It has one of these: A:B, or large A:B:C.")
    ] = ()
    as_path: Annotated[int, Meta(description="It has passed this AS.")] = 0
    set_local_preference: Annotated[int | None, Meta(description="Higher is better; 100 is usual.")] = None
    prepend: Annotated[int, Meta(description="Times that the own AS is put in front, 0 to 16.")] = 0
    add_communities: Annotated[tuple[str, ...], Meta(description="A:B, or large A:B:C.")] = ()


class BGPFilterSpec(Spec, frozen=True, kw_only=True):
    """Rules for what a BGPPeer tells (imports) and is told (exports); the first that holds decides.

    Without one, only prefixes of the cluster's pools are taken in, and only the node's own told."""

    imports: Annotated[tuple[RuleSpec, ...], Meta(description="For routes from the peer.")] = ()
    exports: Annotated[tuple[RuleSpec, ...], Meta(description="For routes to the peer.")] = ()


class BGPAdvertisementSpec(Spec, frozen=True, kw_only=True):
    """Prefixes beside the pods' that nodes announce: of services, of load balancers."""

    prefixes: Annotated[tuple[str, ...], Meta(description="Prefixes, or single addresses as /32 and /128.")]
    node_selector: Annotated[str, Meta(description="Labels of the nodes that announce; empty: all.")] = ""
    external_traffic_policy: Annotated[
        Literal["Cluster", "Local"],
        Meta(description="Cluster: every selected node announces; Local: those in nodes, which serve it."),
    ] = "Cluster"
    nodes: Annotated[tuple[str, ...], Meta(description="With Local: nodes that have an endpoint.")] = ()


class Shape(Spec, frozen=True, kw_only=True):
    """Who of the nodes speaks with whom."""

    mesh: Annotated[bool, Meta(description="Every node with every other.")] = False
    reflectors: Annotated[
        tuple[str, ...], Meta(description="Nodes that every other speaks with, and that reflect.")
    ] = ()

    @property
    def words(self) -> str:
        """For people."""
        parts = ["a full mesh"] if self.mesh else []
        parts += [f"reflectors {', '.join(self.reflectors)}"] if self.reflectors else []
        return " and ".join(parts) or "none between nodes"


class BGPTopologySpec(Spec, frozen=True, kw_only=True):
    """The sessions between nodes, as one of the agents chose them for all. Its name is default.

    Those of both shapes stand; ``old`` is left behind when every node's status has this ``generation``."""

    generation: Annotated[int, Meta(description="Counts the changes.")]
    old: Annotated[Shape, Meta(description="What the sessions are changed from.")]
    new: Annotated[Shape, Meta(description="What they are changed to; the same when nothing changes.")]
    without: Annotated[
        tuple[str, ...],
        Meta(description="Nodes that nothing is heard of: not waited for."),
    ] = ()


BgpSpec = BGPConfigurationSpec | BGPPeerSpec | BGPFilterSpec | BGPAdvertisementSpec | BGPTopologySpec

#: kind → its spec
BGP_KINDS: dict[str, type[BgpSpec]] = {
    "BGPConfiguration": BGPConfigurationSpec,
    "BGPPeer": BGPPeerSpec,
    "BGPFilter": BGPFilterSpec,
    "BGPAdvertisement": BGPAdvertisementSpec,
    "BGPTopology": BGPTopologySpec,
}
