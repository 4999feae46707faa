"""Which of a machine's addresses is the node's: the one that peers send to, one of each family. Pure.

Everything that a machine has is looked at in turn, the link with the best default route first, and what
``spec.detect`` asks for decides. Links that other software makes for its own pods and guests are passed
over: their addresses reach nobody, and are the same on every machine.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

import msgspec

from podway.model.objects import family_of
from podway.model.resources import DetectSpec, NodeFacts, Snapshot, Uplink
from podway.plan.notes import Note

#: names that container runtimes, hypervisors and other pod networks give their links
VIRTUAL = re.compile(
    r"docker.*|br-[0-9a-f]{12}|podman.*|cni.*|cbr.*|nerdctl.*|veth.*|vnet.*|virbr.*|lxcbr.*|lxdbr.*|lxc.*|"
    r"cali.*|tunl.*|ip6tnl.*|vxlan\.calico|vxlan-v6\.calico|flannel.*|cilium.*|weave.*|kube-ipvs.*|kube-bridge|"
    r"nodelocaldns.*|dummy.*|ifb.*"
)


def settle(facts: NodeFacts, spec: DetectSpec, declared: Sequence[str] = ()) -> NodeFacts:
    """``facts`` as found, with the node's addresses chosen and only the links that matter as uplinks.

    ``declared``: addresses that were written down, and so need no choice. ``facts.addresses`` has the
    chosen one of each family first, then what else the machine has; "" in ``facts.trouble`` is well."""
    eligible = [uplink for uplink in facts.uplinks if _is_eligible(uplink, spec)]
    others = [uplink for uplink in facts.uplinks if uplink not in eligible]
    ranked = sorted(_candidates(eligible, spec, facts.towards), key=lambda one: one[0])
    found = [address for _, address in ranked]
    firsts = [next((a for a in found if family_of(a) == family), "") for family in (4, 6)]
    chosen = [address for address in firsts if address]
    links = [uplink.name for address in chosen for uplink in eligible if address in uplink.addresses]
    best = sorted(
        eligible, key=lambda uplink: links.index(uplink.name) if uplink.name in links else len(links)
    )
    trouble = _missing(declared, facts) if declared else "" if chosen else _nothing(facts, spec)
    families = {family_of(address) for address in chosen}  # else another's first would be taken for chosen
    rest = [a for u in best for a in u.addresses if a not in chosen and family_of(a) in families]
    return msgspec.structs.replace(
        facts,
        uplinks=tuple(best),
        others=tuple(a for uplink in others for a in uplink.addresses),
        addresses=tuple(declared) or ((*chosen, *rest) if chosen else ()),
        trouble=trouble,
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _is_eligible(uplink: Uplink, spec: DetectSpec) -> bool:
    """A link that is asked for by name counts, whatever it looks like."""
    if _matches(uplink.name, spec.skip):
        return False
    return _matches(uplink.name, spec.interfaces) or not VIRTUAL.fullmatch(uplink.name)


def _candidates(
    uplinks: Iterable[Uplink], spec: DetectSpec, towards: dict[str, str]
) -> Iterable[tuple[tuple[int, ...], str]]:
    """(Rank, address) of everything that ``spec`` allows; less is better."""
    source = towards.get(spec.can_reach, "")
    for place, uplink in enumerate(uplinks):
        bare = {ipaddress.ip_interface(address).ip.compressed for address in uplink.addresses}
        if spec.can_reach and source not in bare:
            continue
        by_name = _first(re.fullmatch(pattern, uplink.name) for pattern in spec.interfaces)
        if by_name is None:
            continue
        for number, address in enumerate(uplink.addresses):
            ip = ipaddress.ip_interface(address).ip
            by_cidr = _first(ip in ipaddress.ip_network(cidr) for cidr in spec.cidrs)
            if by_cidr is not None:
                yield (by_name, by_cidr, ip.compressed != source, place, number), address


def _first(matches: Iterable[object]) -> int | None:
    """The place of the first match, None when there is none; 0 when nothing was asked for."""
    found = list(matches)
    return next((place for place, match in enumerate(found) if match), None) if found else 0


def _missing(declared: Sequence[str], facts: NodeFacts) -> str:
    """What was declared and is on no link."""
    own = {ipaddress.ip_interface(a).ip for uplink in facts.uplinks for a in uplink.addresses}
    lost = [address for address in declared if ipaddress.ip_interface(address).ip not in own]
    return f"{', '.join(lost)} is declared and on none of its links" if lost else ""


def _nothing(facts: NodeFacts, spec: DetectSpec) -> str:
    """What the machine has instead of a usable address."""
    seen = [f"{uplink.name} has {', '.join(uplink.addresses)}" for uplink in facts.uplinks]
    asked = [
        f"{key} {', '.join(value) if isinstance(value, tuple | list) else value}"
        for key, value in msgspec.to_builtins(spec).items()
        if value
    ]
    wanted = f" by {', '.join(asked)}" if asked else ""
    return f"it has no usable address{wanted}: {'; '.join(seen) or 'no link has a global one'}"


def note(facts: NodeFacts) -> tuple[Note, ...]:
    """What is wrong with the node's own address."""
    if not facts.trouble:
        return ()
    fix = "give a link an address, or say which in the Node's spec.detect or spec.addresses"
    return (Note(f"node {facts.name}", facts.trouble, fix),)


def with_own(snapshot: Snapshot, facts: NodeFacts) -> Snapshot:
    """``snapshot`` with this node as it is now: what it told the store may be a moment old, or be lost."""
    own = snapshot.nodes.get(facts.name)
    if own is None or own.declared or not facts.addresses or own.spec.addresses == facts.addresses:
        return snapshot
    spec = msgspec.structs.replace(own.spec, addresses=facts.addresses)
    new = msgspec.structs.replace(own, spec=spec)
    return msgspec.structs.replace(snapshot, nodes=snapshot.nodes | {facts.name: new})
