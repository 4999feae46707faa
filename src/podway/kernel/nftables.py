"""nftables of one network namespace: structure through libnftables, elements and looking raw.

A rule carries its reason and the digest of its text in its comment. What the kernel made of it is
remembered as a digest of its expressions, so that a rule that somebody replaced under the same comment
is seen as well.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterable, Sequence

import msgspec

from podway.kernel.netlink import wire
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink import gatewire, nftwire
from podway.model.errors import Unavailable
from podway.model.objects import TABLE, Actual, Key, NftChain, NftElement, NftRule, NftSet, Op, OpResult

NETLINK_NETFILTER = 12
EVENT_GROUP = 7  # NFNLGRP_NFTABLES
GENERATION = 15  # NFT_MSG_NEWGEN
STRUCTURE = (0, 2, 3, 5, 6, 8)  # NFT_MSG_NEW and DEL of tables, chains, rules


class Nft:
    """Table ``podway`` of every family, in the calling thread's network namespace.

    Raises Unavailable where libnftables or nf_tables is missing.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise Unavailable("libnftables is missing", str(error), "apt install libnftables1") from error
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context: int | None = None
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        self._sets: dict[tuple[str, str], NftSet] = {}
        self._made: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}

    def close(self) -> None:
        """Let go of library and socket."""
        self._socket.close()
        if self._context is not None:
            self._library.nft_ctx_free(ctypes.c_void_p(self._context))
            self._context = None

    @property
    def portids(self) -> frozenset[int]:
        """What events of element changes made here carry as their sender."""
        return frozenset({self._socket.portid})

    # looking -------------------------------------------------------------------------------------

    def observe(self) -> Actual:
        """All sets, chains and elements of our tables."""
        found: Actual = {}
        for one in self._observe_sets():
            found[one.key] = one
            found.update(self.observe_elements(one))
        found.update(self._observe_chains())
        return found

    def _dump(self, kind: int) -> list[wire.Message]:
        try:
            dumps = [self._socket.dump(nftwire.dump(kind, family)) for family in nftwire.FAMILY_NAMES]
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                fix = "modprobe nf_tables, or a kernel with CONFIG_NF_TABLES"
                raise Unavailable("the kernel has no nf_tables", str(error), fix) from error
            raise
        return [message for messages in dumps for message in messages]

    def _observe_sets(self) -> list[NftSet]:
        sets = [nftwire.decode_set(message.payload, TABLE) for message in self._dump(nftwire.GETSET)]
        known = [one for one in sets if one is not None and not one.name.startswith("__")]
        self._sets = {(one.family, one.name): one for one in known}
        return known

    def observe_elements(self, of: NftSet) -> Actual:
        """The elements of one set; {} when it is gone."""
        try:
            messages = self._socket.dump(nftwire.dump_elements(of, TABLE))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return {}
            raise
        raw = [item for message in messages for item in nftwire.raw_elements(message.payload)]
        return {one.key: one for one in nftwire.elements(of, raw)}

    def find(self, wanted: Sequence[NftElement]) -> Actual:
        """Of some elements those that stand, however they are now; others may come along. Each costs the
        same however many stand in its set, but for sets of prefixes: those are looked at whole."""
        if any((one.family, one.set) not in self._sets for one in wanted):
            self._observe_sets()
        found: Actual = {}
        for one in wanted:
            of = self._sets.get((one.family, one.set))
            if of is not None and one.key not in found:
                found.update(self._find(one, of))
        return found

    def _find(self, one: NftElement, of: NftSet) -> Actual:
        if of.interval and len(of.type) == 1:
            return self.observe_elements(of)
        try:
            message = self._socket.ask(nftwire.get_element(one, of, TABLE))
        except OSError as error:
            if error.errno != errno.EINVAL:  # the set is another by now
                raise
            return self.observe_elements(of)
        if message is None:
            return {}
        # of a set of ranges, which never overlap, it may be another that the key lies in
        raw = nftwire.raw_elements(message.payload)
        return {same.key: same for same in nftwire.elements(of, raw)}

    def _observe_rules(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """(family, chain) → (comment, digest) of its rules in order."""
        rules: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for message in self._dump(nftwire.GETRULE):
            rule = nftwire.decode_rule(message.payload, TABLE)
            if rule is not None:
                rules.setdefault(rule[:2], []).append(rule[2:])
        return rules

    def _observe_chains(self) -> Actual:
        rules = self._observe_rules()
        found: Actual = {}
        for message in self._dump(nftwire.GETCHAIN):
            chain = nftwire.decode_chain(message.payload, TABLE)
            if chain is None:
                continue
            family, name, kind, hook, priority = chain
            mine = tuple(rules.get((family, name), ()))
            made = self._made.setdefault((family, name), mine)
            found["nftchain", family, name] = NftChain(
                family=family,
                name=name,
                type=kind,
                hook=hook,
                priority=priority,
                rules=tuple(_observed(rule, made) for rule in mine),
            )
        return found

    # changing ------------------------------------------------------------------------------------

    def apply(self, ops: Sequence[Op]) -> list[OpResult]:
        """Structure as one atomic transaction, elements as another; results in the order of ``ops``."""
        structure = [op for op in ops if not isinstance(op.want or op.have, NftElement)]
        elements = [op for op in ops if isinstance(op.want or op.have, NftElement)]
        removing = [op for op in structure if op.want is None]
        results = self._structure([op for op in structure if op.want is not None])
        results |= self._elements(elements)
        results |= self._structure(removing)
        return [results[op.key] for op in ops]

    def _structure(self, ops: Sequence[Op]) -> dict[Key, OpResult]:
        if not ops:
            return {}
        if any(isinstance(op.want, NftSet) and op.have is not None for op in ops):
            # A set's type can't be changed under the rules that use it: all goes, the next pass makes it.
            self.remove_all()
            return {op.key: OpResult(op) for op in ops}
        words = self.run(script(ops))
        if words:
            return {op.key: OpResult(op, errno.EINVAL, words) for op in ops}
        for op in ops:
            if isinstance(op.want, NftSet):
                self._sets[op.want.family, op.want.name] = op.want
        self._remember(op.want for op in ops if isinstance(op.want, NftChain))
        return {op.key: OpResult(op) for op in ops}

    def _remember(self, chains: Iterable[NftChain]) -> None:
        mine = list(chains)
        if mine:
            rules = self._observe_rules()
            for chain in mine:
                self._made[chain.family, chain.name] = tuple(rules.get((chain.family, chain.name), ()))

    def _elements(self, ops: Sequence[Op]) -> dict[Key, OpResult]:
        if not ops:
            return {}
        if any(self._set_of(op) is None for op in ops):
            self._observe_sets()
        results: dict[Key, OpResult] = {}
        pending: list[tuple[Op, bytes]] = []
        for op in ops:
            of = self._set_of(op)
            if of is None:
                gone = op.want is None
                results[op.key] = OpResult(op) if gone else OpResult(op, errno.ENOENT, "no such set")
                continue
            pending += [(op, request) for request in _requests(op, of)]
        failed = self._transact([request for _, request in pending])
        if failed:
            # the transaction was refused as a whole: find out whose fault it is, one by one
            for op in {op.key: op for op, _ in pending}.values():
                single = self._transact([request for one, request in pending if one is op])
                code, words = next(iter(single.values()), (0, ""))
                fine = op.want is None and code == errno.ENOENT
                results[op.key] = OpResult(op) if fine else OpResult(op, code, words)
        return {op.key: OpResult(op) for op, _ in pending} | results

    def _set_of(self, op: Op) -> NftSet | None:
        subject = op.want or op.have
        assert isinstance(subject, NftElement)
        return self._sets.get((subject.family, subject.set))

    def _transact(self, requests: Sequence[bytes]) -> dict[int, tuple[int, str]]:
        return self._socket.batch(requests, nftwire.begin(), nftwire.end()) if requests else {}

    def remove_all(self) -> None:
        """Remove our tables, and nothing else."""
        for family in nftwire.FAMILIES:
            # "add" first: deleting what isn't there is an error
            self.run(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n")
        self._sets.clear()
        self._made.clear()

    def run(self, text: str) -> str:
        """Run commands atomically; the library's words when it refuses, else ""."""
        if self._context is None:
            self._context = self._library.nft_ctx_new(0)
            self._library.nft_ctx_buffer_error(ctypes.c_void_p(self._context))
            self._library.nft_ctx_buffer_output(ctypes.c_void_p(self._context))
        context = ctypes.c_void_p(self._context)
        code = self._library.nft_run_cmd_from_buffer(context, text.encode())
        words = self._library.nft_ctx_get_error_buffer(context)
        return (words.decode("utf-8", "replace").strip() or f"nft: error {code}") if code else ""


def _requests(op: Op, of: NftSet) -> list[bytes]:
    requests = []
    if isinstance(op.have, NftElement):
        requests.append(nftwire.element(op.have, of, TABLE, delete=True))
    if isinstance(op.want, NftElement):
        requests.append(nftwire.element(op.want, of, TABLE))
    return requests


def _observed(rule: tuple[str, str], made: Sequence[tuple[str, str]]) -> NftRule:
    """A rule as found. Its text is known by the digest in its comment, if it still is what was made."""
    comment, _ = rule
    reason, _, digest = comment.rpartition(" #")
    return NftRule(text=f"#{digest}" if rule in made and reason else f"#foreign {rule[1]}", reason=reason)


def script(ops: Iterable[Op]) -> str:
    """nft commands for structural operations: tables, sets, chains, then the rules that use them."""
    tables: dict[str, None] = {}
    sets, chains, rules, removals, late = [], [], [], [], []
    for op in ops:
        want, have = op.want, op.have
        if isinstance(want, NftSet):
            tables[want.family] = None
            sets.append(_set(want))
        elif isinstance(want, NftChain):
            tables[want.family] = None
            where = f"{want.family} {TABLE} {want.name}"
            if isinstance(have, NftChain) and _base(have) != _base(want):
                removals += [f"flush chain {where}", f"delete chain {where}"]
            chains += [f"add chain {where}{_base(want)}", f"flush chain {where}"]
            rules += [f"add rule {where} {_rule(rule)}" for rule in want.rules]
        elif isinstance(have, NftChain):
            removals.append(f"flush chain {have.family} {TABLE} {have.name}")
            late.append(f"delete chain {have.family} {TABLE} {have.name}")
        elif isinstance(have, NftSet):
            late.append(f"delete set {have.family} {TABLE} {have.name}")
    lines = [f"add table {family} {TABLE}" for family in tables]
    return "\n".join([*lines, *removals, *sets, *chains, *rules, *late]) + "\n"


def _base(chain: NftChain) -> str:
    if not chain.hook:
        return ""
    return f" {{ type {chain.type} hook {chain.hook} priority {chain.priority}; policy accept; }}"


def _rule(rule: NftRule) -> str:
    return f'{rule.text} comment "{rule.reason} #{rule.digest}"'


#: how a part of a set's key reads as an expression, for sets that are typed by one
EXPRESSIONS = {"ifname": "iifname", "ether_addr": "ether saddr", "ipv6_addr": "ip6 saddr"}


def _set(one: NftSet) -> str:
    where = f"{one.family} {TABLE} {one.name}"
    if any(part.startswith("@") for part in one.type):
        return f"add set {where} {{ typeof {' . '.join(EXPRESSIONS.get(part, part) for part in one.type)}; }}"
    kind = " . ".join(one.type)
    if one.data:
        return f"add map {where} {{ type {kind} : {' . '.join(one.data)}; }}"
    return f"add set {where} {{ type {kind};{' flags interval;' if one.interval else ''} }}"


class NftEvent(msgspec.Struct, frozen=True):
    """Something in our tables changed, or (``foreign``) in chains of others that packets may be forwarded by.

    ``overflow``: events were lost."""

    key: Key = ()
    portid: int = 0
    overflow: bool = False
    foreign: bool = False


class NftMonitor:
    """Listens to nf_tables' events in the calling thread's network namespace."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER, groups=(EVENT_GROUP,))

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def read(self) -> list[NftEvent]:
        """One event per changed thing of table ``podway`` since the last call, and one for all that others
        changed in tables, chains and rules of theirs; never waits."""
        events: list[NftEvent] = []
        foreign: NftEvent | None = None
        try:
            for message in self._socket.pending():
                kind = message.type & 0xFF
                family = nftwire.FAMILY_NAMES.get(message.payload[0])
                if message.type >> 8 != nftwire.SUBSYSTEM >> 8 or kind == GENERATION:
                    continue
                # the table's name is attribute 1 of every message of the subsystem
                found = wire.attributes(message.payload, nftwire.HEADER.size)
                if wire.string(found.get(1, b"")) != TABLE:
                    if kind in STRUCTURE and message.payload[0] in gatewire.FAMILIES:
                        foreign = NftEvent(("passage",), message.portid, foreign=True)
                elif family is not None:
                    events.append(NftEvent(_event_key(kind, family, found), message.portid))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            events.append(NftEvent(overflow=True))
        return [*events, foreign] if foreign else events


def _event_key(kind: int, family: str, found: wire.Attributes) -> Key:
    """The key of the chain or set concerned; an element is told by its set."""
    if kind in (3, 4, 5):  # NEWCHAIN, GETCHAIN, DELCHAIN
        return ("nftchain", family, wire.string(found.get(nftwire.CHAIN_NAME, b"")))
    if kind in (6, 7, 8):  # rules
        return ("nftchain", family, wire.string(found.get(nftwire.RULE_CHAIN, b"")))
    return ("nftset", family, wire.string(found.get(nftwire.SET_NAME, b"")))
