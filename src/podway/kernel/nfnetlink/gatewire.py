"""Other software's chains and rules, as far as they decide what becomes of a forwarded packet. Pure.

Numbers from linux/netfilter/nf_tables.h. Both of nftables' own rules and those of iptables-nft, whose
REJECT may be an extension ("target") of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from podway.kernel.netlink import wire
from podway.kernel.nfnetlink import nftwire
from podway.model.gate import Where

FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}
NUMBERS = {name: number for number, name in FAMILIES.items()}
NF_INET_FORWARD, NF_DROP, NF_ACCEPT, JUMP, GOTO, RETURN = 2, 0, 1, -3, -4, -5
GETTABLE, TABLE_NAME = 1, 1
RULE_HANDLE = 3
IMMEDIATE_DATA, DATA_VERDICT, VERDICT_CODE, VERDICT_CHAIN = 2, 2, 1, 2
TARGET_NAME = 1
MATCH_NAME, MATCH_INFO = 1, 3
#: expressions that let every packet go on to the next one
INDIFFERENT = ("counter", "log", "limit")


class BaseChain(NamedTuple):
    """A chain that every forwarded packet of its family passes."""

    where: Where
    drops: bool  # by policy


class ForeignRule(NamedTuple):
    """``verdict``: drop, reject, accept, return, jump or goto (to ``chain``) for every packet, or ""."""

    handle: int
    comment: str
    verdict: str
    chain: str = ""


def dump_tables() -> bytes:
    """A request for the tables of all families."""
    return nftwire.dump(GETTABLE, 0)


def decode_table(payload: bytes) -> tuple[str, str]:
    """(family, name) of a table; "" for a family that has neither routed nor bridged packets."""
    name = wire.string(wire.attributes(payload, nftwire.HEADER.size)[TABLE_NAME])
    return (FAMILIES | nftwire.FAMILY_NAMES).get(payload[0], ""), name


def dump_chains() -> bytes:
    """A request for the chains of all families."""
    return nftwire.dump(nftwire.GETCHAIN, 0)


def dump_rules(where: Where) -> bytes:
    """A request for the rules of one chain."""
    parts = wire.text(nftwire.RULE_TABLE, where.table), wire.text(nftwire.RULE_CHAIN, where.chain)
    return nftwire.dump(nftwire.GETRULE, NUMBERS[where.family], *parts)


def get_chain(where: Where) -> bytes:
    """A question for one chain."""
    parts = wire.text(nftwire.CHAIN_TABLE, where.table), wire.text(nftwire.CHAIN_NAME, where.chain)
    return nftwire.dump(nftwire.GETCHAIN, NUMBERS[where.family], *parts)


def decode_base(payload: bytes) -> BaseChain | None:
    """The chain of a message if it hooks what is forwarded, else None."""
    found = wire.attributes(payload, nftwire.HEADER.size)
    hook = wire.attributes(found.get(nftwire.CHAIN_HOOK, b""))
    number, policy = (
        int.from_bytes(raw, "big")
        for raw in (hook.get(nftwire.HOOK_NUM, b""), found.get(nftwire.CHAIN_POLICY, b"\1"))
    )
    kind = wire.string(found.get(nftwire.CHAIN_TYPE, b""))
    if payload[0] not in FAMILIES or not hook or (number, kind) != (NF_INET_FORWARD, "filter"):
        return None
    table, chain = (wire.string(found[at]) for at in (nftwire.CHAIN_TABLE, nftwire.CHAIN_NAME))
    return BaseChain(Where("nftables", FAMILIES[payload[0]], table, chain), policy == NF_DROP)


def decode_rule(payload: bytes) -> ForeignRule:
    """The rule of a message."""
    found = wire.attributes(payload, nftwire.HEADER.size)
    handle = int.from_bytes(found.get(RULE_HANDLE, b""), "big")
    expressions = found.get(nftwire.RULE_EXPRESSIONS, b"")
    comment = nftwire.comment(found.get(nftwire.RULE_USERDATA, b"")) or _matched_comment(expressions)
    return ForeignRule(handle, comment, *_verdict(expressions))


def _matched_comment(expressions: bytes) -> str:
    """What iptables-nft's match "comment" says; "" without one."""
    for expression in nftwire.items(expressions):
        if wire.string(expression[nftwire.EXPR_NAME]) == "match":
            data = wire.attributes(expression.get(nftwire.EXPR_DATA, b""))
            if wire.string(data.get(MATCH_NAME, b"")) == "comment":
                return wire.string(data.get(MATCH_INFO, b""))
    return ""


def _verdict(expressions: bytes) -> tuple[str, str]:
    for expression in nftwire.items(expressions):
        name = wire.string(expression[nftwire.EXPR_NAME])
        data = wire.attributes(expression.get(nftwire.EXPR_DATA, b""))
        if name == "reject":
            return "reject", ""
        if name == "target":
            return ("reject", "") if wire.string(data.get(TARGET_NAME, b"")) == "REJECT" else ("", "")
        if name == "immediate":
            outer = wire.attributes(data.get(IMMEDIATE_DATA, b""))
            verdict = wire.attributes(outer.get(DATA_VERDICT, b""))
            code = int.from_bytes(verdict.get(VERDICT_CODE, b""), "big", signed=True)
            words = {NF_DROP: "drop", NF_ACCEPT: "accept", JUMP: "jump", GOTO: "goto", RETURN: "return"}
            return (
                (words.get(code, ""), wire.string(verdict.get(VERDICT_CHAIN, b""))) if verdict else ("", "")
            )
        if name not in INDIFFERENT:
            break
    return "", ""
