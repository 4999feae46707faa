"""What Podway needs of a machine, tried in a scratch namespace before anything is changed."""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Callable
from typing import Literal

import msgspec

from podway.delta import clash
from podway.kernel import namespaces, sysctl
from podway.model.errors import PodwayError, Unavailable
from podway.model.gate import Passage
from podway.model.objects import IpTunnelOptions, Link, Op, Peer, VxlanOptions

Verdict = Literal["ok", "warning", "failed"]


class Check(msgspec.Struct, frozen=True):
    """One thing looked at: "failed" means that Podway can't work here."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


def _root() -> Check:
    if os.geteuid() == 0:
        return Check("root", "ok", "running as root")
    return Check("root", "failed", f"running as user {os.geteuid()}", "run as root (sudo)")


def _library() -> Check:
    name = ctypes.util.find_library("nftables")
    try:
        if name and ctypes.CDLL(name):
            return Check("libnftables", "ok", name)
        why = "the library is not installed"
    except OSError as error:
        why = str(error)
    return Check("libnftables", "failed", why, "apt install libnftables1")


def _make(link: Link, what: str) -> Check:
    """Whether the kernel makes such a link."""
    from podway.kernel.rtnetlink import Rtnetlink

    scratch = namespaces.create()
    try:
        rtnetlink = Rtnetlink(scratch)
        try:
            result = rtnetlink.apply([Op(link, None)])[0]
        finally:
            rtnetlink.close()
    finally:
        os.close(scratch)
    if not result.errno:
        return Check(what, "ok", f"the kernel makes {what} links")
    return Check(what, "failed", f"the kernel makes no {what} link: {result.error}", clash.module(what))


def _veth() -> Check:
    return _make(Link(name="pw0", kind="veth", peer=Peer(name="pw1")), "veth")


def _bridge() -> Check:
    return _make(Link(name="pw0", kind="bridge"), "bridge")


def _vxlan() -> Check:
    vxlan = VxlanOptions(vni=1, port=8472, local="192.0.2.1")
    return _optional(Link(name="pw0", kind="vxlan", vxlan=vxlan), "no network with transport vxlan")


def _wireguard() -> Check:
    return _optional(Link(name="pw0", kind="wireguard"), "no network with transport wireguard")


def _ipip() -> Check:
    options = IpTunnelOptions(local="192.0.2.1")
    return _optional(Link(name="pw0", kind="ipip", iptunnel=options), "no network with transport ipip")


def _ip6tnl() -> Check:
    options = IpTunnelOptions(external=True)
    lost = "no IPv6 in a network with transport ipip"
    return _optional(Link(name="pw0", kind="ip6tnl", iptunnel=options), lost)


def _optional(link: Link, lost: str) -> Check:
    """A link that not everybody needs; ``lost``: what can't be had without it."""
    found = _make(link, link.kind)
    if found.verdict == "ok":
        return found
    return Check(link.kind, "warning", f"{found.detail}: {lost}", found.fix)


def _nf_tables() -> Check:
    from podway.kernel.nftables import Nft

    scratch = namespaces.create()
    try:
        with namespaces.entered(scratch):
            nft = Nft()
            try:
                nft.observe()
            finally:
                nft.close()
    except (PodwayError, OSError) as error:
        return Check(
            "nf_tables", "failed", str(error), "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES"
        )
    finally:
        os.close(scratch)
    return Check("nf_tables", "ok", "the kernel answers for nf_tables")


def _bridge_filter() -> Check:
    found = sysctl.read("net/bridge/bridge-nf-call-iptables")
    if found == "1":
        detail = (
            "bridged packets pass the host's IP firewall: a FORWARD policy of drop stops pods of one node"
        )
        return Check("br_netfilter", "warning", detail, "spec.firewall: manage where one drops")
    return Check("br_netfilter", "ok", "off" if found == "0" else "not loaded")


def _forwarding() -> Check:
    """What is accepted in Podway's own table is still dropped by another's."""
    from podway.kernel.nftables import Nft
    from podway.kernel.passage import Firewalls

    try:
        nft = Nft()
        firewalls = Firewalls(nft.run)
        try:
            gates, passes = firewalls.gates(), firewalls.observe().values()
        finally:
            firewalls.close()
            nft.close()
    except (PodwayError, OSError) as error:
        return Check("forwarding", "warning", f"firewalls can't be looked at: {error}")
    opened = {one.where for one in passes if isinstance(one, Passage) and not one.first}
    shut = [gate for gate in gates if gate.where not in opened]
    if not gates:
        return Check("forwarding", "ok", "no firewall drops what is forwarded")
    if not shut:
        return Check("forwarding", "ok", f"pods pass {', '.join(str(gate.where) for gate in gates)}")
    said = "; ".join(f"{gate.where} drops it: {gate.because}" for gate in shut)
    fix = "set firewall: manage in the spec of the pods' networks, or accept their pools in that firewall"
    return Check("forwarding", "warning", f"what is forwarded passes a firewall. {said}", fix)


REQUIRED: tuple[Callable[[], Check], ...] = (_root, _library, _veth, _bridge, _nf_tables)
ADVISORY: tuple[Callable[[], Check], ...] = (
    _vxlan,
    _ipip,
    _ip6tnl,
    _wireguard,
    _bridge_filter,
    _forwarding,
)


def checks() -> list[Check]:
    """All checks that can be made; those that need root are left out without it."""
    root = _root()
    if root.verdict == "failed":
        return [root, _library()]
    return [check() for check in (*REQUIRED, *ADVISORY)]


def require() -> None:
    """Raise Unavailable with the first thing that is missing."""
    for check in checks():
        if check.verdict == "failed":
            raise Unavailable(check.detail, check.name, check.fix)
