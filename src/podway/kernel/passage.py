"""The firewalls of other software that pods' packets pass: where they drop, and Podway's rules in them.

Of theirs nothing is changed: rules come to the head of their chains and go again, each with a comment
that says whose it is and what it passes. They stand in iptables-nft's chains too, as iptables prints them.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence

from podway.kernel import xtables
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink import gatewire
from podway.kernel.nfnetlink.gatewire import BaseChain, ForeignRule
from podway.model.errors import Unavailable
from podway.model.gate import Gate, Passage, Where
from podway.model.objects import TABLE, Actual, Op, OpResult

NETLINK_NETFILTER = 12
DEPTH = 8  # chains that jump to each other are followed so far
MARK = "podway:"
TOO_FAR = "Index of insertion too big"  # iptables' words


class Firewalls:
    """In the calling thread's network namespace. ``run``: executes nft commands, returns its complaint."""

    def __init__(self, run: Callable[[str], str]) -> None:
        self._run = run
        self._socket = NetlinkSocket(NETLINK_NETFILTER)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def gates(self) -> tuple[Gate, ...]:
        """Every chain that drops what is forwarded unless a rule accepts it."""
        found = [self._gate(base) for base in self._bases()]
        for where in xtables.places():
            try:
                found.append(xtables.gate(where, xtables.rules(where)))
            except (Unavailable, OSError) as error:
                found.append(Gate(where, f"for all that is known; {error}"))
        return tuple(sorted((gate for gate in found if gate), key=lambda gate: str(gate.where)))

    def has(self, where: Where) -> bool:
        """Whether a chain is there."""
        if where.firewall == "iptables-legacy":
            with contextlib.suppress(Unavailable, OSError):
                return bool(xtables.rules(where))
            return False
        return self._socket.ask(gatewire.get_chain(where)) is not None

    def observe(self) -> Actual:
        """Podway's rules in the chains of others."""
        found: Actual = {}
        for base in self._bases():
            for rule in self._rules(base.where):
                one = _passage(base.where, rule.comment)
                if one is not None:
                    found[one.key] = one
        for where in xtables.places():
            with contextlib.suppress(Unavailable, OSError):
                for words in xtables.rules(where):
                    one = _passage(where, next((word for word in words if word.startswith(MARK)), ""))
                    if one is not None:
                        found[one.key] = one
        return found

    def apply(self, ops: Sequence[Op]) -> list[OpResult]:
        """Each by itself: a chain that went meanwhile is no reason to leave the others closed."""
        return [self._apply(op) for op in ops]

    def _apply(self, op: Op) -> OpResult:
        one = op.want or op.have
        assert isinstance(one, Passage)
        words = ""
        try:
            if one.where.firewall == "iptables-legacy" or one.first:
                self._by_iptables(one, remove=op.want is None)
            elif op.want is None or not self._inserted_as_theirs(one):
                words = self._run(self._script(one, remove=op.want is None))
        except (OSError, Unavailable) as error:
            return OpResult(op, errno.EIO, str(error))
        return OpResult(op, errno.EINVAL, words) if words else OpResult(op)

    def _script(self, one: Passage, remove: bool) -> str:
        chain = f"{one.where.family} {one.where.table} {one.where.chain}"
        if remove:
            mine = [rule for rule in self._rules(one.where) if rule.comment == _comment(one)]
            return "".join(f"delete rule {chain} handle {rule.handle}\n" for rule in mine)
        side = "saddr" if one.side == "saddr" else "daddr"
        match = f"{'ip6' if ':' in one.prefix else 'ip'} {side} {one.prefix}"
        match += " ct state established,related" if one.side == "answers" else ""
        jumps = [rule for rule in self._rules(one.where) if _asks(rule.comment)]
        head = f"add rule {chain} handle {jumps[-1].handle}" if jumps else f"insert rule {chain}"
        return f'{head} {match} counter accept comment "{_comment(one)}"\n'

    def _inserted_as_theirs(self, one: Passage) -> bool:
        """Whether iptables-nft took it: it can't list nftables' own match of a connection's state."""
        if one.side == "answers" and xtables.shares(one.where):
            with contextlib.suppress(
                Unavailable, OSError
            ):  # isn't installed, or can't list this chain anyway
                self._by_iptables(one, remove=False)
                return True
        return False

    def _by_iptables(self, one: Passage, remove: bool) -> None:
        if remove:
            xtables.run(one.where, "-D", one.where.chain, *_words(one))
            if one.first:
                with contextlib.suppress(OSError):  # it has rules, or others lead there
                    xtables.run(one.where, "-X", one.first)
            return
        if one.first:
            with contextlib.suppress(OSError):  # it is there
                xtables.run(one.where, "-N", one.first)
        for again in (True, True, False):
            try:
                xtables.run(one.where, "-I", one.where.chain, str(self._place(one)), *_words(one))
                return
            except OSError as error:  # somebody has flushed the chain since its rules were counted
                if not again or TOO_FAR not in str(error):
                    raise

    def _place(self, one: Passage) -> int:
        """Where a rule comes in its chain, from 1: the head, or behind what asks the administrator's."""
        if one.where.firewall == "iptables-legacy":
            lines = [words for words in xtables.rules(one.where) if words[0] == "-A"]
            comments = [next((word for word in words if word.startswith(MARK)), "") for words in lines]
        else:
            comments = [rule.comment for rule in self._rules(one.where)]
        jumps = [] if one.first else [n for n, said in enumerate(comments, 1) if _asks(said)]
        return max(jumps, default=0) + 1

    def _bases(self) -> list[BaseChain]:
        messages = self._socket.dump(gatewire.dump_chains())
        found = [gatewire.decode_base(message.payload) for message in messages]
        return [base for base in found if base is not None and base.where.table != TABLE]

    def _rules(self, where: Where) -> list[ForeignRule]:
        """In order; [] when the chain went."""
        try:
            messages = self._socket.dump(gatewire.dump_rules(where))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        return [gatewire.decode_rule(message.payload) for message in messages]

    def _gate(self, base: BaseChain) -> Gate | None:
        verdict, by = self._end(base.where)
        if verdict in ("drop", "reject"):
            return Gate(base.where, by)
        return Gate(base.where, "its policy is drop") if base.drops and verdict != "accept" else None

    def _end(self, where: Where, depth: int = 0) -> tuple[str, str]:
        """What becomes of a packet that no condition of the chain's rules concerns, and by which rule."""
        for rule in self._rules(where) if depth < DEPTH else []:
            verdict, by = rule.verdict, _named(rule, where)
            if verdict in ("jump", "goto"):
                inner = Where(where.firewall, where.family, where.table, rule.chain)
                verdict, by = self._end(inner, depth + 1)
                if rule.verdict == "goto" and not verdict:
                    verdict = "return"
            if verdict == "return":
                return "", ""
            if verdict:
                return verdict, by
        return "", ""


def _named(rule: ForeignRule, where: Where) -> str:
    comment = f' "{rule.comment}"' if rule.comment else ""
    return f"the {rule.verdict} of rule handle {rule.handle}{comment} in its chain {where.chain}"


def _comment(one: Passage) -> str:
    return f"{MARK}{one.side}:{one.prefix}" + (f">{one.first}" if one.first else "")


def _asks(comment: str) -> bool:
    """Whether a rule with that comment leads to an administrator's chain, which comes before all passes."""
    return comment.startswith(MARK) and ">" in comment


def _passage(where: Where, comment: str) -> Passage | None:
    """The pass that a comment tells of; None for a rule of somebody else's."""
    side, _, prefix = comment.removeprefix(MARK).partition(":")
    if not comment.startswith(MARK) or side not in ("saddr", "daddr", "answers"):
        return None
    prefix, _, first = prefix.partition(">")
    return Passage(where=where, side=side, prefix=prefix, first=first)


def _words(one: Passage) -> tuple[str, ...]:
    """The rule as iptables has it."""
    rule = ("-s" if one.side == "saddr" else "-d", one.prefix)
    state = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED") if one.side == "answers" else ()
    return (*rule, *state, "-m", "comment", "--comment", _comment(one), "-j", one.first or "ACCEPT")
