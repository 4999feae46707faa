"""Drop-in ``portmap``: the published ports of a pod that another plugin attached.

Ports with conditions can't be in the maps of all pods: they are rules of the pod's own chains.
"""

from __future__ import annotations

from collections.abc import Iterator

from podway.model import names
from podway.model.dropin import Condition, Piece, Ports
from podway.model.objects import AnyObject, NftChain, NftRule, family_of
from podway.plan import nat, ports

_HOOKS = ("prerouting", "output")
_UNSPECIFIC = ("", "0.0.0.0", "::")


def on_node(piece: Piece, want: Ports) -> tuple[AnyObject, ...]:
    """Elements of the same maps as those of Podway's own pods, or chains of its own."""
    plain = tuple(one for one in want.addresses if not want.conditions.get(family_of(one)))
    return (
        *ports.endpoint(want.ports, plain),
        *_chains(piece, want, [one for one in want.addresses if one not in plain]),
        *nat.callers(want.masked),
        *(ports.sysctls(want.link) if want.link else ()),
    )


def _chains(piece: Piece, want: Ports, addresses: list[str]) -> Iterator[NftChain]:
    for hook in _HOOKS if addresses else ():
        yield NftChain(
            family=ports.FAMILY,
            name=names.ports_chain(piece.id, hook),
            type="nat",
            hook=hook,
            priority=ports.DSTNAT,
            rules=tuple(rule for address in addresses for rule in _rules(want, address, hook)),
        )


def _rules(want: Ports, address: str, hook: str) -> Iterator[NftRule]:
    family = family_of(address)
    ip = "ip" if family == 4 else "ip6"
    # what the node itself sends has no incoming link: it is none, and it isn't another
    asked = [
        one for one in want.conditions[family] if not (hook == "output" and _of_link(one) and one.negated)
    ]
    if hook == "output" and any(_of_link(one) for one in asked):
        return
    texts = [_text(one, ip) for one in asked]
    for port in want.ports:
        if port.host_ip and family_of(port.host_ip) != family:
            continue
        to = f"{address}:{port.container_port}" if family == 4 else f"[{address}]:{port.container_port}"
        at = [f"{ip} daddr {port.host_ip}"] if port.host_ip not in _UNSPECIFIC else []
        loop = ["ip6 daddr != ::1"] if family == 6 else [f"meta nfproto ipv{family}"]
        words = [*loop, "fib daddr type local", f"{port.protocol} dport {port.host_port}", *at, *texts]
        yield NftRule(f"{' '.join(words)} dnat {ip} to {to}", "port published on conditions")


def _of_link(one: Condition) -> bool:
    return one.what == "iifname"


def _text(one: Condition, ip: str) -> str:
    value = f'"{one.value}"' if _of_link(one) else one.value
    return f"{'' if _of_link(one) else f'{ip} '}{one.what} {'!= ' if one.negated else ''}{value}"
