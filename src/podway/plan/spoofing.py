"""No pod sends from an address or MAC that isn't its own: nftables, in the bridge family for pods on a
bridge, in inet and arp for routed ones.

Not ``rp_filter``: IPv6 has none, and a distribution's ``all=2`` overrides a strict veth. Flat hash sets
keyed by the port's name, so that the cost of a packet does not depend on the number of pods.
"""

from __future__ import annotations

from podway.model import names
from podway.model.objects import Key, NftChain, NftElement, NftRule, NftSet, family_of

FAMILY = "bridge"  # where pods on a bridge are seen
ROUTED = "inet"  # and where routed ones are
ARP = "arp"
ND_TARGET = "@th,64,128"  # the target of a neighbour advertisement, RFC 4861 section 4.4

# The same words for both kinds of pod: neighbour discovery looks alike in both families.
_DISCOVERY = (
    NftRule("icmpv6 type nd-router-advert counter drop", "a pod is no router"),
    NftRule(
        f"icmpv6 type nd-neighbor-advert iifname . {ND_TARGET} != @targets6 counter drop",
        "neighbour advertisement for an address that is not the pod's own",
    ),
)

_STRUCTURE = (
    NftSet(family=FAMILY, name="guarded", type=("ifname",)),
    NftSet(family=FAMILY, name="mac_guarded", type=("ifname",)),
    NftSet(family=FAMILY, name="macs", type=("ifname", "ether_addr")),
    NftSet(family=FAMILY, name="sources4", type=("ifname", "ether_addr", "ipv4_addr")),
    NftSet(family=FAMILY, name="sources6", type=("ifname", "ether_addr", "ipv6_addr")),
    NftSet(family=FAMILY, name="targets6", type=("ifname", ND_TARGET)),
    NftChain(
        family=FAMILY,
        name="guard",
        rules=(
            NftRule("iifname . ether saddr != @macs counter drop", "source MAC is not the pod's own"),
            NftRule(
                "ether type arp iifname . arp saddr ether != @macs counter drop",
                "ARP sender MAC is not the pod's own",
            ),
            NftRule(
                "ether type arp arp saddr ip 0.0.0.0 accept", "ARP probe before an address is used, RFC 5227"
            ),
            NftRule(
                "ether type arp iifname . arp saddr ether . arp saddr ip != @sources4 counter drop",
                "ARP sender address is not the pod's own",
            ),
            NftRule(
                "ether type ip iifname . ether saddr . ip saddr != @sources4 counter drop",
                "IPv4 source is not the pod's own",
            ),
            NftRule(
                "ether type ip6 ip6 saddr :: icmpv6 type { nd-neighbor-solicit, 143 } accept",
                "duplicate address detection has no source yet, RFC 4862",
            ),
            NftRule(
                "ether type ip6 iifname . ether saddr . ip6 saddr != @sources6 counter drop",
                "IPv6 source is not the pod's own",
            ),
            *_DISCOVERY,
        ),
    ),
    NftChain(
        family=FAMILY,
        name="prerouting",
        hook="prerouting",
        priority=-300,
        rules=(
            NftRule(
                "ether type ip iifname . ether saddr . ip saddr @sources4 accept",
                "a pod as itself: one lookup for nearly every packet",
            ),
            NftRule(
                "ether type ip6 meta l4proto != ipv6-icmp iifname . ether saddr . ip6 saddr @sources6 accept",
                "a pod as itself; what neighbour discovery says is looked into",
            ),
            NftRule("iifname @guarded jump guard", "pods are held to their own addresses"),
            NftRule(
                "iifname @mac_guarded iifname . ether saddr != @macs counter drop",
                "source MAC is not the pod's own (macspoofchk)",
            ),
        ),
    ),
)


_ROUTED_STRUCTURE = (
    NftSet(family=ROUTED, name="guarded", type=("ifname",)),
    NftSet(family=ROUTED, name="sources4", type=("ifname", "ipv4_addr")),
    NftSet(family=ROUTED, name="sources6", type=("ifname", "ipv6_addr")),
    NftSet(family=ROUTED, name="targets6", type=("ifname", ND_TARGET)),
    NftChain(
        family=ROUTED,
        name="guard",
        rules=(
            NftRule(
                "meta nfproto ipv4 iifname . ip saddr != @sources4 counter drop",
                "IPv4 source is not the pod's own",
            ),
            NftRule(
                "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, 143 } accept",
                "duplicate address detection has no source yet, RFC 4862",
            ),
            NftRule(
                "meta nfproto ipv6 iifname . ip6 saddr != @sources6 counter drop",
                "IPv6 source is not the pod's own",
            ),
            *_DISCOVERY,
        ),
    ),
    NftChain(
        family=ROUTED,
        name="senders",
        hook="prerouting",
        priority=-300,
        rules=(
            NftRule(
                "meta nfproto ipv4 iifname . ip saddr @sources4 accept",
                "a pod as itself: one lookup for nearly every packet",
            ),
            NftRule(
                "meta nfproto ipv6 meta l4proto != ipv6-icmp iifname . ip6 saddr @sources6 accept",
                "a pod as itself; what neighbour discovery says is looked into",
            ),
            NftRule("iifname @guarded jump guard", "pods are held to their own addresses"),
        ),
    ),
    NftSet(family=ARP, name="guarded", type=("ifname",)),
    NftSet(family=ARP, name="sources4", type=("ifname", "ipv4_addr")),
    NftChain(
        family=ARP,
        name="guard",
        rules=(
            NftRule("arp saddr ip 0.0.0.0 accept", "ARP probe before an address is used, RFC 5227"),
            NftRule(
                "iifname . arp saddr ip != @sources4 counter drop", "ARP sender address is not the pod's own"
            ),
        ),
    ),
    NftChain(
        family=ARP,
        name="input",
        hook="input",
        priority=0,
        rules=(NftRule("iifname @guarded jump guard", "pods are held to their own addresses"),),
    ),
)

_GUARDS = {(one.family, one.name) for one in (*_STRUCTURE, *_ROUTED_STRUCTURE) if isinstance(one, NftSet)}


def is_guard(key: Key) -> bool:
    """Whether a key is of an element that holds a pod to its addresses."""
    return key[0] == "nftelement" and (key[1], key[2]) in _GUARDS


def structure() -> tuple[NftSet | NftChain, ...]:
    """Sets and chains, the same on every node."""
    return (*_STRUCTURE, *_ROUTED_STRUCTURE)


def routed_endpoint(link: str, mac: str, addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """What the routed pod behind ``link`` may use. Its MAC is no matter: nobody else is on that link."""
    own = [address.partition("/")[0] for address in addresses]
    four = [address for address in own if family_of(address) == 4]
    six = [address for address in own if family_of(address) == 6] + [names.link_local(mac)]
    sets = [(ROUTED, "sources4", four), (ROUTED, "sources6", six), (ROUTED, "targets6", six)]
    sets.append((ARP, "sources4", four))
    elements = [
        NftElement(family=family, set=name, value=(link, address))
        for family, name, allowed in sets
        for address in allowed
    ]
    # "guarded" after the rest: a pod is never held to sets that aren't filled yet
    guards = [NftElement(family=family, set="guarded", value=(link,)) for family in (ROUTED, ARP)]
    return (*elements, *guards)


def mac_alone(link: str, mac: str) -> tuple[NftElement, ...]:
    """What the pod behind ``link`` may use, where only the MAC is looked at."""
    return (
        NftElement(family=FAMILY, set="macs", value=(link, mac)),
        NftElement(family=FAMILY, set="mac_guarded", value=(link,)),
    )


def endpoint(link: str, mac: str, addresses: tuple[str, ...]) -> tuple[NftElement, ...]:
    """What the pod behind ``link`` may use; its link-local IPv6 address is derived from its MAC."""

    def element(name: str, *value: str) -> NftElement:
        return NftElement(family=FAMILY, set=name, value=(link, *value))

    own = [address.partition("/")[0] for address in addresses]
    four = [address for address in own if family_of(address) == 4]
    six = [address for address in own if family_of(address) == 6] + [names.link_local(mac)]
    return (
        # "guarded" after the rest: a pod is never held to sets that aren't filled yet
        element("macs", mac),
        *(element("sources4", mac, address) for address in four),
        *(element("sources6", mac, address) for address in six),
        *(element("targets6", address) for address in six),
        element("guarded"),
    )
