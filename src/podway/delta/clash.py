"""Two VXLAN devices can't share a VNI and a UDP port in one family: name the one that is there already.

The kernel's rule (vxlan_vni_in_use in drivers/net/vxlan): same VNI, same port, same family of the outer
addresses. A port alone is shared only by devices of one kind; else bringing the device up says EADDRINUSE.
"""

from __future__ import annotations

import errno

from podway.model.objects import ALIAS_PREFIX, Actual, Link, VxlanOptions
from podway.model.wireguard import WgDevice

Place = tuple[int, int, bool]  # VNI, port, whether the outer addresses are IPv6


def _place(options: VxlanOptions) -> Place:
    return options.vni, options.port, ":" in options.local


def foreign_tunnels(actual: Actual) -> dict[Place, str]:
    """Names of VXLAN devices that Podway did not make, by what they occupy."""
    return {
        _place(link.vxlan): link.name
        for link in actual.values()
        if isinstance(link, Link)
        and link.vxlan is not None
        and not (link.alias and link.alias.startswith(ALIAS_PREFIX))
    }


def objection(want: object, foreign: dict[Place, str]) -> tuple[str, str] | None:
    """(What stands in the way of a tunnel device, what to do about it); None when nothing does."""
    if not isinstance(want, Link) or want.vxlan is None:
        return None
    other = foreign.get(_place(want.vxlan))
    if other is None or other == want.name:
        return None
    what = f"VXLAN device {other}, which Podway did not make, has VNI {want.vxlan.vni} on UDP port "
    fix = f"ip link del {other} if nobody needs it, or give the network another vxlan.vni or vxlan.port"
    return f"{what}{want.vxlan.port}", fix


#: kind of link → kernel module, configuration, where they are not named as the kind is
_MODULES = {"ipip": ("ipip", "NET_IPIP"), "ip6tnl": ("ip6_tunnel", "IPV6_TUNNEL")}


def module(kind: str) -> str:
    """How to come by links of a kind."""
    name, option = _MODULES.get(kind, (kind, kind.upper()))
    return f"modprobe {name}, or a kernel with CONFIG_{option}"


def explained(want: object, number: int, error: str) -> str:
    """The kernel's refusal of a tunnel, with what to do where that is known."""
    if isinstance(want, WgDevice) and number == errno.EADDRINUSE:
        return f"{error}: UDP port {want.port} is taken; find it by ss -ulnp, or set another wireguard.port"
    if not isinstance(want, Link):
        return error
    if number == errno.EOPNOTSUPP and want.kind:
        return f"{error}: the kernel makes no {want.kind} link; {module(want.kind)}"
    if number == errno.EEXIST and want.iptunnel is not None:
        where = want.iptunnel.local or "every address (external)"
        other = f"another {want.kind} device ends at {where}"
        return f"{error}: {other}; find it by ip -d link show type {want.kind}"
    if want.vxlan is None or number != errno.EADDRINUSE:
        return error
    port = want.vxlan.port
    who = f"UDP port {port} is taken by another program, or by a VXLAN device of another kind"
    return f"{error}: {who}; find it by ss -ulnp and ip -d link show type vxlan, or set another vxlan.port"
