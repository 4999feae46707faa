"""What of nftables and iptables-legacy is a container's by the reference plugins' own naming. Pure.

The reference plugins 1.x name what they make by SHA-512 of network and container, in a chain's name or a
comment; the firewall plugin's rules are known by the container's address, macspoofchk's chains by container
and interface. iptables-nft's rules are in the tables ``nat`` and ``filter`` of ``ip`` and ``ip6``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

import msgspec

_CHAIN_LENGTH = 28  # XT_EXTENSION_MAXNAMELEN less the terminating zero, pkg/utils/utils.go
_HASH = 16  # hexadecimal digits, pkg/ip/ipmasq_nftables_linux.go
_GUARD = ("bridge", "nat")  # where macspoofchk's are, pkg/link/spoofcheck.go
#: (family, table) that the reference plugins write to
TABLES = (
    _GUARD,
    *((family, table) for family in ("ip", "ip6") for table in ("nat", "filter", "cni_hostport")),
    ("inet", "cni_plugins_masquerade"),
)
FORWARD = "CNI-FORWARD"  # the chain of the firewall plugin
_TABLE = re.compile(r"table (\S+) (\S+) \{")
_CHAIN = re.compile(r"\tchain (\S+) \{(?: # handle (\d+))?")
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


def guards(of: Attached) -> tuple[str, str]:
    """Names of macspoofchk's chains: of a container's link, and of its MAC."""
    name = f"cni-br-iface-{of.container}-{of.ifname}"
    return name, f"{name}-mac"


def shaper(of: Attached) -> str:
    """The device by which bandwidth holds back what a container sends (plugins/meta/bandwidth/main.go)."""
    return f"bwp{_digest(of.network + of.container)}"[:15]


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
    return chain == FORWARD and len(words) > 2 and words[2] in of.addresses and words[-1] == "accept"


def removals(listing: str, of: Attached) -> tuple[str, ...]:
    """nft commands that remove what is this container's: rules first, then its chains."""
    rules, own = [], []
    for family, table, chain, rule, handle in _rules(listing):
        if (family, table) == _GUARD:
            continue
        if not rule and chain in chains(of):
            own += [f"{verb} chain {family} {table} {chain}" for verb in ("flush", "delete")]
        elif rule and chain not in chains(of) and _is_of(rule, table, chain, of):
            rules.append(f"delete rule {family} {table} {chain} handle {handle}")
    return (*rules, *own, *_guard_removals(listing, of))


def _guard_removals(listing: str, of: Attached) -> list[str]:
    """The jump first, then the chains with their rules, each by its handle: an interface's name may hold what
    nft would take for something else than a part of a chain's."""
    link, mac = guards(of)
    found: dict[str, str] = {}
    jumps = []
    for family, table, chain, rule, handle in _rules(listing):
        if (family, table) != _GUARD:
            continue
        if not rule and chain in (link, mac):
            found[chain] = f"delete chain bridge nat handle {handle}"
        elif chain == "PREROUTING" and _plain(rule).endswith(f" jump {link}"):
            jumps.append(f"delete rule bridge nat PREROUTING handle {handle}")
    return [*jumps, *(found[chain] for chain in (link, mac) if chain in found)]


def guarded(listing: str, of: Attached) -> bool:
    """Whether the container's frames pass macspoofchk's chains, where those with a wrong MAC are dropped."""
    link, mac = guards(of)
    ends = [
        (chain, _plain(rule))
        for family, table, chain, rule, _ in _rules(listing)
        if (family, table) == _GUARD
    ]
    wanted = (("PREROUTING", f"jump {link}"), (link, f"jump {mac}"), (mac, "return"), (mac, "drop"))
    return all(any(at == chain and rule.endswith(end) for chain, rule in ends) for at, end in wanted)


def _plain(rule: str) -> str:
    """A rule without its comment."""
    return rule.partition(' comment "')[0]


def legacy_removals(listing: str, of: Attached) -> tuple[str, ...]:
    """The same for one table of iptables-legacy as ``-S`` prints it, in iptables-restore's words."""
    rules, own = [], []
    for line in listing.splitlines():
        words = line.split()
        if words[0] == "-N" and words[1] in chains(of):
            own.append(words[1])
        elif words[0] == "-A" and words[1] not in chains(of) and _is_legacy_of(words, of):
            rules.append(f"-D{line[2:]}")
    return (*rules, *(f"{verb} {chain}" for verb in ("-F", "-X") for chain in own))


def _is_legacy_of(words: list[str], of: Attached) -> bool:
    if words[-2] == "-j" and words[-1] in chains(of):
        return True
    return words[1] == FORWARD and words[3].partition("/")[0] in of.addresses and words[-1] == "ACCEPT"


def traces(commands: Iterable[str], of: Attached) -> frozenset[str]:
    """Which of "masquerade", "ports", "passes" a container has, by the commands that would remove them."""
    masquerade, ports = chains(of)
    tables = {"cni_plugins_masquerade": "masquerade", "cni_hostport": "ports"}
    names = {masquerade: "masquerade", ports: "ports", FORWARD: "passes"}
    found = set()
    for words in (command.split() for command in commands):
        if words[:2] == ["delete", "rule"]:
            found |= {tables.get(words[3], ""), names.get(words[4], "")}
        elif words[0] in ("-D", "-X"):
            found.add(names.get(words[1], ""))
        else:
            found.add(names.get(words[-1], ""))
    return frozenset(found - {""})


def _rules(listing: str) -> Iterator[tuple[str, str, str, str, str]]:
    """(family, table, chain, rule, handle) of each rule, and each chain with rule ""."""
    family = table = chain = ""
    for line in listing.splitlines():
        if found := _TABLE.match(line):
            family, table = found.groups()
        elif found := _CHAIN.match(line):
            chain = found[1]
            yield family, table, chain, "", found[2] or ""
        elif found := _RULE.match(line):
            yield family, table, chain, found[1], found[2]
