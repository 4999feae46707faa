"""Pods that the reference plugins made, from before Podway took their names: freed, and checked.

Nothing of it is kept here: by the reference's naming it is found in the kernel again, so that whoever comes
after a crash does the rest. Each is entered in the journal before it is touched.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import msgspec

from podway.kernel import foreign_rules, inside, xtables
from podway.kernel.facade import Kernel, is_owned
from podway.model import names
from podway.model.dropin import AnyWant, BridgePod, Passed, Ports, Ptp, Shaped
from podway.model.errors import Conflict
from podway.model.gate import Where
from podway.model.objects import Link, Op, Qdisc
from podway.node import wiring
from podway.node.database import Database, JournalEntry
from podway.node.faults import reach
from podway.plan.dropin import foreign
from podway.plan.dropin.foreign import Attached


class _Rules(msgspec.Struct, frozen=True):
    """Commands that would remove a container's rules: nft's, and iptables-restore's for each table."""

    nft: tuple[str, ...]
    legacy: dict[Where, tuple[str, ...]]
    forward: bool  # whether firewall's own chain is here; with firewalld as its backend it never is
    guard: bool  # whether macspoofchk's are whole

    def texts(self) -> list[str]:
        return [*self.nft, *(one for lines in self.legacy.values() for one in lines)]


def _rules(kernel: Kernel, of: Attached) -> _Rules:
    listing, others = kernel.foreign_rules.listing(foreign.TABLES), foreign_rules.legacy()
    legacy = {where: foreign.legacy_removals(text, of) for where, text in others.items()}
    return _Rules(
        foreign.removals(listing, of),
        {where: lines for where, lines in legacy.items() if lines},
        any(foreign.FORWARD in text for text in (listing, *others.values())),
        foreign.guarded(listing, of),
    )


#: instead of a kind: a link of the node's, whose alias is its name there
MOVED = "host-device"


def _moved(link: Link | None) -> str:
    """What a link is called on the node, "" for one that wasn't moved in by the reference plugin."""
    return link.alias or "" if link is not None and not is_owned(link) else ""


def _is_of(link: Link, of: Attached) -> bool:
    """Not one of another configuration's, which Podway knows."""
    own = names.dropin_alias(f"{of.container}/{of.ifname}/{of.network}/")
    return not is_owned(link) or (link.alias or "").startswith(own)


def free(kernel: Kernel, database: Database, of: Attached, namespace: int = -1, kind: str = "veth") -> None:
    """Remove a container's rules and shaper, and with ``namespace`` its interface of ``kind``.

    Nothing being there is no error. Raises Unavailable, OSError."""
    subject, rules = named(of.container, of.ifname), _rules(kernel, of)
    link = kernel.link_inside(namespace, of.ifname) if namespace >= 0 else None
    shaper = _shaper(kernel, of)
    found = rules.texts()
    if link is not None and link.kind == kind and _is_of(link, of):
        found.append(f"link {of.ifname}")
    moved = _moved(link) if kind == MOVED else ""
    if moved:
        found.append(f"link {of.ifname}, which is the node's {moved}")
    if shaper is not None:
        found.append(f"link {shaper.name}")
    if not found:
        return
    note(database, subject, found)
    if rules.nft:
        kernel.foreign_rules.remove(rules.nft)
        reach("takeover.nft")
    for where, lines in rules.legacy.items():
        xtables.restore(where, lines)
        reach("takeover.legacy")
    if shaper is not None:
        wiring.raise_first(kernel.apply([Op(None, shaper)]), subject)
        reach("takeover.shaper")
    if moved:
        inside.move_out(kernel.rtnetlink, namespace, of.ifname, moved, "")
    if link is not None and link.kind == kind and _is_of(link, of):
        wiring.raise_first(kernel.apply_inside(namespace, [Op(None, link)]), subject)
    reach("takeover.link")


def named(container: str, ifname: str) -> str:
    """What the journal calls an attachment."""
    return f"container {container} interface {ifname}"


def note(database: Database, subject: str, found: Collection[str]) -> None:
    """Enter in the journal what is about to be touched."""
    database.journal_add([JournalEntry(time.time(), "taken over", subject, "; ".join(found), 0.0, "")])
    reach("takeover.noted")


def leave(database: Database, what: str, why: str) -> None:
    """Enter in the journal what could not be taken over."""
    database.journal_add([JournalEntry(time.time(), "left", what, why, 0.0, "")])


def _shaper(kernel: Kernel, of: Attached) -> Link | None:
    link = kernel.rtnetlink.get_link(foreign.shaper(of))
    return link if link is not None and link.kind == "ifb" and not link.alias else None


def require(kernel: Kernel, of: Attached, want: AnyWant, links: Collection[str]) -> None:
    """Raise Conflict naming the first thing on the node that isn't as the reference plugin left it.

    ``links``: the node's, as prevResult names them."""
    subject = named(of.container, of.ifname)
    if isinstance(want, Shaped):
        _require_shaper(kernel, of, want, links, subject)
    if isinstance(want, BridgePod | Ptp):
        _require_link(kernel, want, links, subject)
    if not isinstance(want, BridgePod | Ptp | Ports | Passed):
        return
    rules = _rules(kernel, of)
    stand = foreign.traces(rules.texts(), of)
    if isinstance(want, BridgePod | Ptp) and want.masquerade and "masquerade" not in stand:
        raise _missing("the rule that masquerades it", subject)
    if isinstance(want, BridgePod) and want.mac_guard and not rules.guard:
        raise _missing("the guard of its MAC (macspoofchk)", subject)
    if isinstance(want, Ports) and want.ports and "ports" not in stand:
        raise _missing("the rule of its published ports", subject)
    if isinstance(want, Passed) and rules.forward and want.addresses and "passes" not in stand:
        raise _missing(f"its rule in {foreign.FORWARD}", subject)


def _missing(what: str, subject: str) -> Conflict:
    return Conflict(f"{what} is missing on the node", subject, "delete and add the pod")


def _veth(kernel: Kernel, links: Collection[str], subject: str) -> Link:
    for name in links:
        link = kernel.rtnetlink.get_link(name)
        if link is None:
            raise _missing(f"link {name}", subject)
        if link.kind == "veth":
            return link
    raise _missing("the veth", subject)


def _require_link(kernel: Kernel, want: BridgePod | Ptp, links: Collection[str], subject: str) -> None:
    link = _veth(kernel, links, subject)
    if not link.up:
        raise Conflict(f"link {link.name} is down on the node", subject, f"ip link set {link.name} up")
    if isinstance(want, BridgePod) and link.master != want.bridge:
        fix = f"ip link set {link.name} master {want.bridge}"
        raise Conflict(f"link {link.name} is no port of bridge {want.bridge}", subject, fix)


def _require_shaper(kernel: Kernel, of: Attached, want: Shaped, links: Collection[str], subject: str) -> None:
    limited = []
    if want.bandwidth.ingress_rate:
        limited.append(_veth(kernel, [name for name in links if name != foreign.shaper(of)], subject).name)
    if want.bandwidth.egress_rate:
        if _shaper(kernel, of) is None:
            raise _missing(f"link {foreign.shaper(of)}", subject)
        limited.append(foreign.shaper(of))
    queues = kernel.rtnetlink.dump("qdisc").values()
    shaped = {one.link for one in queues if isinstance(one, Qdisc) and one.kind in ("tbf", "htb")}
    for name in limited:
        if name not in shaped:
            raise _missing(f"the limit on link {name}", subject)
