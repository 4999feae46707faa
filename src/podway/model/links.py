"""What makes a link the kind that it is, where it stands on another one or is a program's. Fixed when made.

Mode names are those of ip-link(8); numbers are the codec's.
"""

from __future__ import annotations

import msgspec


class MacvlanOptions(msgspec.Struct, frozen=True, kw_only=True, tag="macvlan"):
    """IFLA_MACVLAN_*: ``mode`` is bridge, private, vepa or passthru. ``queue``: broadcasts that may wait."""

    mode: str
    queue: int | None = None


class IpvlanOptions(msgspec.Struct, frozen=True, kw_only=True, tag="ipvlan"):
    """IFLA_IPVLAN_MODE: l2, l3 or l3s."""

    mode: str


class VlanOptions(msgspec.Struct, frozen=True, kw_only=True, tag="vlan"):
    """IFLA_VLAN_ID, IEEE 802.1Q."""

    number: int


class TapOptions(msgspec.Struct, frozen=True, kw_only=True, tag="tap"):
    """Of a tap device that stays without a program: who may open it (None: root alone), by several queues?"""

    owner: int | None = None
    group: int | None = None
    multi_queue: bool = False


AnyOptions = MacvlanOptions | IpvlanOptions | VlanOptions | TapOptions
