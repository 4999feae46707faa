"""What a Network says of the tunnels between nodes: an object of its spec for each transport that has one."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from podway.model.spec import Spec


class VxlanSpec(Spec, frozen=True, kw_only=True):
    """The tunnel of ``transport: vxlan``."""

    vni: Annotated[
        int, Meta(description="VXLAN network identifier, 1 to 16777215; one for each network.")
    ] = 1
    port: Annotated[int, Meta(description="UDP port; 8472 is Linux's and Flannel's, 4789 IANA's.")] = 8472
    underlay: Annotated[
        Literal["ipv4", "ipv6"], Meta(description="Which of the nodes' addresses the tunnel runs between.")
    ] = "ipv4"
    direct_within_subnet: Annotated[
        bool, Meta(description="No tunnel to peers that are proved to be on the same segment.")
    ] = False


class IpipSpec(Spec, frozen=True, kw_only=True):
    """The tunnel of ``transport: ipip``."""

    direct_within_subnet: Annotated[
        bool, Meta(description="No tunnel to peers that are proved to be on the same segment.")
    ] = False


class WireguardSpec(Spec, frozen=True, kw_only=True):
    """The tunnel of ``transport: wireguard``."""

    port: Annotated[
        int, Meta(description="UDP port, one for each network; another one also makes new keys.")
    ] = 51820
    underlay: Annotated[
        Literal["ipv4", "ipv6"], Meta(description="Which of the nodes' addresses the tunnel runs between.")
    ] = "ipv4"
    direct_within_subnet: Annotated[
        bool, Meta(description="No tunnel, and so plaintext, to peers proved to be on the same segment.")
    ] = False
    allow_plaintext: Annotated[
        bool, Meta(description="Packets may leave the node without encryption, as directWithinSubnet does.")
    ] = False
