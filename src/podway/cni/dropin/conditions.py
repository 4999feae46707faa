"""Conditions of published ports, as the reference plugin's ``conditionsV4`` and ``conditionsV6`` have them.

Words of iptables or of nft. Those about addresses and the incoming link are taken; each becomes a value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from podway.cni.errors import wrong
from podway.cni.reader import Section
from podway.model.dropin import Condition

_IPTABLES = {
    **dict.fromkeys(("-s", "--src", "--source"), "saddr"),
    **dict.fromkeys(("-d", "--dst", "--destination"), "daddr"),
    **dict.fromkeys(("-i", "--in-interface"), "iifname"),
}
_NFT = re.compile(r"(?:(ip6?) (saddr|daddr)|(iifname))( !=)? (\S+)")
_LINK = re.compile(r"[A-Za-z0-9_.@-]{1,15}")  # of those that the kernel allows, what needs no quoting
_FIX = "conditions are of addresses (-s, -d) and the incoming link (-i), each with or without !"


def conditions(section: Section, family: int) -> tuple[Condition, ...]:
    """All that must hold. Raises CniError 7, naming the condition."""
    key = f"conditionsV{family}"
    words = [word for text in section.texts(key) for word in text.split()]
    if not words:
        return ()
    read = _of_iptables if words[0][0] in "-!" else _of_nft
    return tuple(read(section.at(key), words, family))


def _of_iptables(key: str, words: list[str], family: int) -> Iterator[Condition]:
    rest, negated = list(words), False
    while rest:
        word = rest.pop(0)
        if word == "!":
            negated = True
            continue
        what = _IPTABLES.get(word)
        if what is None or not rest:
            raise wrong(key, f"{word!r} can't be a condition of Podway's", _FIX)
        yield _condition(key, what, rest.pop(0), negated, family)
        negated = False
    if negated:
        raise wrong(key, "nothing follows the last !", _FIX)


def _of_nft(key: str, words: list[str], family: int) -> Iterator[Condition]:
    text = " ".join(words)
    while text:
        found = _NFT.match(text)
        if found is None or (found[1] and found[1] != ("ip" if family == 4 else "ip6")):
            raise wrong(key, f"{text!r} can't be a condition of Podway's", _FIX)
        value = found[5].strip('"').replace("*", "+") if found[3] else found[5]
        yield _condition(key, found[2] or found[3], value, bool(found[4]), family)
        text = text[found.end() :].lstrip()


def _condition(key: str, what: str, value: str, negated: bool, family: int) -> Condition:
    if what == "iifname":
        if not _LINK.fullmatch(value.removesuffix("+")):
            raise wrong(key, f"{value!r} is no link's name")
        return Condition(what, f"{value[:-1]}*" if value.endswith("+") else value, negated)
    try:
        prefix = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise wrong(key, f"{value!r} is not a prefix") from None
    if prefix.version != family or "%" in value:
        raise wrong(key, f"{value} is not an IPv{family} prefix")
    return Condition(what, str(prefix), negated)
