"""Bring the kernel to what is planned: observe, diff, apply, and write down what was mended."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from podway.delta.clash import explained
from podway.delta.differ import Refusal, diff, ordered
from podway.kernel import suspects
from podway.kernel.facade import ALL_KINDS, DOOMED_GROUP, NFT_KINDS, Kernel
from podway.model.errors import PodwayError
from podway.model.objects import Actual, AnyObject, Key, Link, Op, OpResult
from podway.model.wireguard import WG_KINDS
from podway.node.attachments import Attachments
from podway.node.backoff import Fight, repaired
from podway.node.database import Database, JournalEntry
from podway.node.ledger import remember
from podway.node.pieces import Pieces
from podway.node.vanished import is_about, link_of, opened
from podway.plan.planner import Planner
from podway.plan.spoofing import is_guard


class Noticed(msgspec.Struct, frozen=True):
    """When a key was seen to change (seconds) and who did it, as far as the kernel says."""

    at: float
    who: str = ""


class Report(msgspec.Struct, frozen=True):
    """One pass. ``retry_at``: when a key that waits may be tried again (None: nothing waits)."""

    results: tuple[OpResult, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    waiting: dict[Key, str] = {}
    retry_at: float | None = None

    def __add__(self, later: Report) -> Report:
        """Two passes as one: everything that was done, and what the later one found."""
        return msgspec.structs.replace(later, results=self.results + later.results)

    @property
    def failures(self) -> list[OpResult]:
        """Operations that the kernel refused."""
        return [result for result in self.results if result.errno]


#: kinds whose objects stand for themselves, and on no look at anything else
SIMPLE = frozenset({"route", "neighbour", "fdb", "nftelement", "wgpeer", "wgallowed"})
SHAPING = frozenset({"qdisc", "filter"})
#: kinds that the kernel is asked for in one go: what is seen and not asked for would be taken for stray
TOGETHER = (NFT_KINDS, SHAPING, WG_KINDS)


def looked_at(kinds: Collection[str]) -> frozenset[str]:
    """What a look at ``kinds`` is about: links always, and whatever is only seen together with them."""
    return frozenset(kinds).union({"link"}, *(group for group in TOGETHER if group & set(kinds)))


def plan_pass(
    kernel: Kernel, planner: Planner, on_foreign: Collection[Key], kinds: Collection[str] = ALL_KINDS
) -> tuple[tuple[Op, ...], tuple[Refusal, ...], Actual]:
    """Observe ``kinds`` and compare with what is planned: operations, refusals, what was seen.

    ``on_foreign``: keys of what the ledger says Podway put on links of somebody else's."""
    wanted = looked_at(kinds)
    desired = {key: o for key, o in planner.desired.items() if key[0] in wanted}
    paths = [key[1] for key in desired if key[0] == "sysctl"]
    actual = kernel.observe(wanted, paths, {*desired, *on_foreign})
    difference = diff(desired, actual, frozen=planner.kept_as_found)
    shaped = {key[1] for key in desired if key[0] in SHAPING}
    ops = tuple(op for op in difference.ops if op.want or not op.have or not _kept(op.have, planner, shaped))
    ops = tuple(op for op in ops if op.key[0] not in SHAPING or ("link", op.key[1]) in {**desired, **actual})
    return ops, difference.refusals, actual


def _kept(have: AnyObject, planner: Planner, shaped: Collection[str]) -> bool:
    """Whether something that isn't wanted stays: on a link that Podway doesn't limit, a queue is the work of
    another plugin of the pod's chain."""
    return planner.keeps(have) or (have.key[0] in SHAPING and have.key[1] not in shaped)


class Reconciler:
    """Runs on the writer thread. ``now`` is wall clock in seconds, used for the journal too."""

    def __init__(
        self,
        database: Database,
        kernel: Kernel,
        planner: Planner,
        attachments: Attachments,
        pieces: Pieces,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._kernel = kernel
        self._planner = planner
        self._attachments = attachments
        self._pieces = pieces
        self._now = now
        attachments.burial.went = self._went
        self._programmed: dict[Key, AnyObject] = {}  # what stood as wanted at the last look
        self._looked: set[str] = set()  # kinds that a pass was made over
        self._fights: dict[Key, Fight] = {}
        self._culprits: dict[Key, str] = {}  # who changed a key last, for as long as it is fought over
        self.removals_allowed = False
        #: links that pods' calls have just made: their events so far tell of that alone
        self.made: set[Key] = set()
        #: what isn't as wanted, and why: kept until a pass over its kind finds otherwise
        self.problems: dict[Key, str] = {}
        #: pods whose link and namespace have vanished without a DEL, by the link's name
        self.gone: dict[str, str] = {}

    @property
    def programmed(self) -> int:
        """How many wanted objects stood at the last look."""
        if not self.problems and not self.gone:
            return len(self._programmed)
        known = list(self._programmed.items())
        return sum(key not in self.problems and not is_about(Op(one, None), self.gone) for key, one in known)

    def stands(self, keys: Iterable[Key]) -> bool:
        """Whether all of these were as wanted at the last look."""
        return all(key in self._programmed and key not in self.problems for key in keys)

    def plan(self, kinds: Collection[str] = ALL_KINDS) -> tuple[tuple[Op, ...], tuple[Refusal, ...], Actual]:
        """What a pass would do now, changing nothing."""
        on_foreign = self._database.put_on_foreign()
        ops, refusals, actual = plan_pass(self._kernel, self._planner, on_foreign, kinds)
        return tuple(op for op in ops if self._may(op)), refusals, actual

    def _may(self, op: Op) -> bool:
        if op.want is not None:
            return True
        doomed = isinstance(op.have, Link) and op.have.group == DOOMED_GROUP
        # Without a synced source, what isn't wanted may only be not known yet.
        return self.removals_allowed and not doomed and not self._guards_dying(op)

    def _guards_dying(self, op: Op) -> bool:
        return self._attachments.burial.dying and is_guard(op.key)

    def run(self, kinds: Collection[str] = ALL_KINDS, noticed: Mapping[Key, Noticed] | None = None) -> Report:
        """One pass over ``kinds``. ``noticed`` tells the journal since when and by whom."""
        kinds, seen = looked_at(kinds), noticed or {}
        told = {key: notice.who for key, notice in seen.items() if notice.who}
        nobody = {key for key, who in told.items() if who == "the kernel" and key in self._culprits}
        self._culprits |= {key: who for key, who in told.items() if key not in nobody}
        planned, refusals, actual = self.plan(kinds)
        now = self._now()
        ops, waiting = self._without_fights(planned, now)
        remember(self._database, self._planner.desired, ops)
        self.gone = {}
        results = self._apply(ops)
        self._write_down(results, seen, now)
        done = {result.op.key for result in results if not result.errno}
        self._stand({*actual, *done}, kinds)
        self._culprits = {key: who for key, who in self._culprits.items() if key in self._fights}
        retry = min((self._fights[key].allowed_at for key in waiting), default=None)
        kept = {key: why for key, why in self.problems.items() if key[0] not in kinds}
        refused = {r.key: f"{r.reason}; {r.fix}" if r.fix else r.reason for r in refusals}
        errors = {r.op.key: explained(r.op.want, r.errno, r.error) for r in results if r.errno}
        self.problems = kept | refused | errors | waiting
        return Report(tuple(results), refusals, waiting, retry)

    def follow(self, changed: Collection[Key]) -> Report:
        """Bring the kernel to a changed plan. Where all else stood as wanted at the last look and the changes
        are simple, at their cost alone: what was programmed is taken to stand, its loss is told by events."""
        # what was refused is tried again: what stood in its way may have gone
        kinds = {key[0] for key in (*changed, *self.problems)}
        if not kinds:
            return Report()
        desired, known = self._planner.desired, self._programmed
        # what stands that is neither wanted nor known? pods' own objects are made without a pass
        unknown = any(key not in desired and key not in known for key in changed)
        simple = kinds <= SIMPLE and not any(is_guard(key) for key in changed)
        if unknown or not simple or self.problems or not self.removals_allowed or not self._planner.is_calm:
            # what a link carries goes and comes with it
            return self.run(ALL_KINDS if "link" in kinds else kinds)
        pairs = [(desired.get(key), known.get(key)) for key in changed]
        began = self._now()
        results = self._apply(list(ordered(Op(want, have) for want, have in pairs if want != have)))
        self._write_down(results, {}, began)
        if any(result.errno for result in results):
            return Report(tuple(results)) + self.run()
        for key in changed:
            if key in desired:
                known[key] = desired[key]
            else:
                known.pop(key, None)
        return Report(tuple(results))

    def stood(self, objects: Iterable[AnyObject]) -> None:
        """Take in what was made elsewhere: when it goes, that is damage, and its return a repair."""
        stands = {o.key: o for o in objects if self._planner.desired.get(o.key) == o}
        self._programmed |= stands
        self.made |= {key for key in stands if key[0] == "link"}

    def _went(self, keys: Iterable[Key]) -> None:
        """Forget what was taken out of service elsewhere, with the pod that had it."""
        for key in keys:
            if key not in self._planner.desired:
                self._programmed.pop(key, None)

    def _stand(self, seen: Collection[Key], kinds: Collection[str]) -> None:
        """Remember what is in the kernel as wanted; forget what is wanted no more, once it was looked at."""
        desired = self._planner.desired
        known = {k: v for k, v in self._programmed.items() if desired.get(k) == v or k[0] not in kinds}
        self._programmed = known | {key: desired[key] for key in seen if key in desired}
        self._looked |= set(kinds)

    def _without_fights(self, ops: Collection[Op], now: float) -> tuple[list[Op], dict[Key, str]]:
        allowed: list[Op] = []
        waiting: dict[Key, str] = {}
        for op in ops:
            fight = self._fights.get(op.key)
            if fight is None or fight.allowed_at <= now:
                allowed.append(op)
                continue
            who = self._culprits.get(op.key, "")
            if who in ("", "the kernel"):
                self._culprits[op.key] = who = suspects.sentence(self._kernel.portids)
            by = who if who.startswith(";") else f" by {who}"
            waiting[op.key] = f"keeps being changed{by}; next repair in {fight.allowed_at - now:.0f} s"
        missing = {op.key[1] for op in ops if op.key in waiting and op.key[0] == "link" and op.have is None}
        return [op for op in allowed if link_of(op) not in missing], waiting

    def _apply(self, ops: list[Op]) -> list[OpResult]:
        """Apply; a pod's lost veth is made anew with both sides if its namespace still lives."""
        pods, gone = opened(ops, self._planner.inputs)
        self.gone |= gone
        try:
            results = self._kernel.apply([op for op in ops if not is_about(op, self.gone)], pods)
            for name, fd in pods.items():
                self._rewire(name, fd)
            return results
        finally:
            for fd in pods.values():
                os.close(fd)

    def _rewire(self, name: str, fd: int) -> None:
        try:
            endpoint = self._attachments.endpoints.get(name)
            if endpoint is not None:
                self._attachments.program_inside(endpoint, fd)
            else:
                self._pieces.program_inside(self._pieces.known[name], fd)
        except (PodwayError, OSError) as error:
            self._database.journal_add([JournalEntry(self._now(), "failed", name, str(error), 0.0, "")])

    def _write_down(self, results: Collection[OpResult], seen: Mapping[Key, Noticed], began: float) -> None:
        entries: list[JournalEntry] = []
        now = self._now()
        touched = (*seen, *(result.op.key for result in results))
        links = frozenset(key[1] for key in touched if key[0] == "link")
        under = links.union(key[1] for key in touched if key[0] == "address")
        for result in results:
            op = result.op
            notice = seen.get(op.key)
            # a stray is what nobody here programmed; before the first look it is of an agent that was
            stray = op.want is None and op.key not in self._programmed and op.key[0] in self._looked
            is_repair = notice is not None or stray or self._programmed.get(op.key, self) == op.want
            what = "failed" if result.errno else "repaired" if is_repair else _past(op)
            if is_repair and not result.errno and not _goes_along(op, links, under):
                self._fights[op.key] = repaired(self._fights.get(op.key, Fight()), now)
            found = result.error or ("missing" if op.have is None else _text(op.have))
            since = notice.at if notice else began
            who = notice.who if notice else ""
            entries.append(JournalEntry(now, what, " ".join(op.key), found, (now - since) * 1000, who))
            if op.want is None and not result.errno and op.key in self._database.put_on_foreign():
                self._database.ledger_remove(" ".join(op.key))
        if entries:
            self._database.journal_add(entries)


def _goes_along(op: Op, links: Collection[str], under: Collection[str]) -> bool:
    """Whether something went with its link, or the address there (``under``): an uplink that flaps is
    nobody's fight over each route."""
    if op.key[0] == "link":
        return False
    return link_of(op) in (links if op.key[0] == "address" else under)


def _past(op: Op) -> str:
    return {"create": "programmed", "change": "changed", "delete": "removed"}[op.verb]


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
