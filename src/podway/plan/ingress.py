"""Bridges that new connections don't reach from other bridges (``ingressPolicy`` of the plugin firewall).

It is of bridges that have a policy: what comes from anywhere else is not held back, as with the reference.
"""

from __future__ import annotations

from podway.model.objects import NftChain, NftElement, NftRule, NftSet

FAMILY = "inet"
_SETS = (
    NftSet(family=FAMILY, name="apart", type=("ifname",)),
    NftSet(family=FAMILY, name="together", type=("ifname", "ifname")),
)
_RULES = (
    NftRule("ct state established,related accept", "an answer"),
    NftRule("iifname . oifname @together accept", "pods of one bridge (ingressPolicy same-bridge)"),
    NftRule(
        "iifname @apart oifname @apart counter drop", "between bridges that an ingressPolicy keeps apart"
    ),
)


def structure() -> tuple[NftSet | NftChain, ...]:
    """Sets and the chain, the same on every node."""
    return (*_SETS, NftChain(family=FAMILY, name="ingress", hook="forward", rules=_RULES))


def bridge(name: str, isolated: bool) -> tuple[NftElement, ...]:
    """A bridge that has a policy; ``isolated``: pods of its own are held back as well."""
    apart = NftElement(family=FAMILY, set="apart", value=(name,))
    together = NftElement(family=FAMILY, set="together", value=(name, name))
    return (apart,) if isolated else (apart, together)
