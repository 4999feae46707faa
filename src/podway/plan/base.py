"""What every node has, whatever its networks: forwarding, and the nftables structure."""

from __future__ import annotations

from podway.model.objects import AnyObject, Sysctl
from podway.model.resources import NodeFacts
from podway.plan import ingress, nat, ports, spoofing


def node(facts: NodeFacts) -> tuple[AnyObject, ...]:
    """Sysctls and tables that don't depend on any network."""
    return (
        *nat.structure(),
        *spoofing.structure(),
        *ports.structure(),
        *ingress.structure(),
        # Pods' packets are forwarded; a node without forwarding drops them silently.
        Sysctl(path="net/ipv4/ip_forward", value="1"),
        Sysctl(path="net/ipv6/conf/all/forwarding", value="1"),
        # The kernel sends a redirect when "all" or the link says so: both must be off on a node where
        # pods reach each other through the gateway on their own bridge.
        Sysctl(path="net/ipv4/conf/all/send_redirects", value="0"),
        *(
            # With forwarding on, accept_ra 1 stops listening to router advertisements and the uplink
            # loses its default route when the last one expires; 2 keeps listening.
            Sysctl(path=f"net/ipv6/conf/{uplink.name}/accept_ra", value="2")
            for uplink in facts.uplinks
            if uplink.accept_ra
        ),
    )
