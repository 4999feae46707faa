"""What in a listing of nftables is a container's by the reference plugins' own naming. Pure.

The reference plugins 1.x name what they make by SHA-512 of network and container, in a chain's name or a
comment; the firewall plugin's rules are known by the container's address. iptables-nft's rules are in the
tables ``nat`` and ``filter`` of ``ip`` and ``ip6``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

_CHAIN_LENGTH = 28  # XT_EXTENSION_MAXNAMELEN less the terminating zero, pkg/utils/utils.go
_HASH = 16  # hexadecimal digits, pkg/ip/ipmasq_nftables_linux.go
#: (family, table) that the reference plugins write to
TABLES = (
    *((family, table) for family in ("ip", "ip6") for table in ("nat", "filter", "cni_hostport")),
    ("inet", "cni_plugins_masquerade"),
)
_TABLE = re.compile(r"table (\S+) (\S+) \{")
_CHAIN = re.compile(r"\tchain (\S+) \{")
_RULE = re.compile(r"\t\t(.*) # handle (\d+)")


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """An interface that the reference plugins attached; ``addresses`` bare."""

    network: str
    container: str
    ifname: str
    addresses: tuple[str, ...] = ()


def _digest(text: str) -> str:
    return hashlib.sha512(text.encode()).hexdigest()


def chains(of: Attached) -> tuple[str, ...]:
    """Names of a container's own chains: its masquerade's, and its published ports'."""
    digest = _digest(of.network + of.container)
    return f"CNI-{digest}"[:_CHAIN_LENGTH], f"CNI-DN-{digest}"[:_CHAIN_LENGTH]


def _masquerade_comment(of: Attached) -> str:
    return f'comment "{_digest(of.network)[:_HASH]}-{_digest(f"{of.ifname}:{of.container}")[:_HASH]}, '


def _is_of(rule: str, table: str, chain: str, of: Attached) -> bool:
    """Whether a rule, as ``nft -s`` prints it, is this container's."""
    words = [word for word in rule.split() if word != "counter"]
    if table == "nat":
        return words[-2:-1] == ["jump"] and words[-1] in chains(of)
    if table == "cni_plugins_masquerade":
        return _masquerade_comment(of) in rule
    if table == "cni_hostport":
        return rule.endswith(f'comment "{of.container}"')
    return chain == "CNI-FORWARD" and len(words) > 2 and words[2] in of.addresses and words[-1] == "accept"


def removals(listing: str, of: Attached) -> tuple[str, ...]:
    """nft commands that remove what is this container's: rules first, then its chains."""
    rules, own = [], []
    for family, table, chain, rule, handle in _rules(listing):
        if not rule and chain in chains(of):
            own += [f"{verb} chain {family} {table} {chain}" for verb in ("flush", "delete")]
        elif rule and chain not in chains(of) and _is_of(rule, table, chain, of):
            rules.append(f"delete rule {family} {table} {chain} handle {handle}")
    return (*rules, *own)


def _rules(listing: str) -> Iterator[tuple[str, str, str, str, str]]:
    """(family, table, chain, rule, handle) of each rule, and each chain with rule and handle ""."""
    family = table = chain = ""
    for line in listing.splitlines():
        if found := _TABLE.match(line):
            family, table = found.groups()
        elif found := _CHAIN.match(line):
            chain = found[1]
            yield family, table, chain, "", ""
        elif found := _RULE.match(line):
            yield family, table, chain, found[1], found[2]
