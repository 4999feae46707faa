"""A Speaker as the one configuration file that BIRD 2 reads."""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from podway.model.bgp import MAX_PASSWORD, METRIC, PrefixMatch, Rule, Session, Speaker, check_text
from podway.model.errors import InvalidInput
from podway.model.objects import ROUTE_PROTOCOL

if TYPE_CHECKING:
    import jinja2

TEMPLATE, SESSION = "bird.conf.j2", "session.conf.j2"
REMEMBERED = 4096  # sessions whose text is kept: of many a change is about a few
#: a set may not be empty, and a host address of no use matches nothing
NONE = {4: ["0.0.0.0/32"], 6: ["::/128"]}
RECOVERY = 20  # seconds that BIRD waits at most for its sessions after -R: meanwhile it programs nothing new


def render(speaker: Speaker, log: str) -> str:
    """The text of the file; ``log`` is the path that BIRD writes to.

    Raises InvalidInput on a text that would not stay within its quotes."""
    _check(speaker, log)
    four = functools.partial(_of_family, 4)
    six = functools.partial(_of_family, 6)
    announced = dict.fromkeys((*speaker.own, *speaker.advertised))
    head = _template(TEMPLATE).render(
        speaker=speaker,
        log=log,
        metric=METRIC,
        agent=ROUTE_PROTOCOL,
        own4=four(speaker.own, "+"),
        own6=six(speaker.own, "+"),
        lent4=four(speaker.lent, ""),
        lent6=six(speaker.lent, ""),
        pools4=four(speaker.pools, "+"),
        pools6=six(speaker.pools, "+"),
        outside4=_matches(4, speaker.outside) or NONE[4],
        outside6=_matches(6, speaker.outside) or NONE[6],
        announced4=[cidr for cidr in announced if ":" not in cidr],
        announced6=[cidr for cidr in announced if ":" in cidr],
        bfd=any(session.bfd for session in speaker.sessions),
        foreign=_foreign(speaker),
        restart_wait=RECOVERY,
    )
    return head + "".join(_session(one, speaker.port, speaker.strict) for one in speaker.sessions)


def digest(text: str) -> str:
    """What a configuration is known by."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=REMEMBERED)
def _session(session: Session, port: int, strict: bool) -> str:
    """Protocol of one session, and a BGPPeer's filters: all that they depend on are the arguments."""
    return _template(SESSION).render(
        session=session,
        port=port,
        strict=strict,
        condition=_condition,
        community_attribute=_attribute,
        community_value=_value,
    )


@functools.cache
def _template(name: str) -> jinja2.Template:
    import jinja2  # a tenth of the agent's start, and needed for BGP alone

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(Path(__file__).with_name(name).read_text())


def _of_family(family: int, prefixes: tuple[str, ...], pattern: str) -> list[str]:
    """Prefixes with BIRD's pattern."""
    return [p + pattern for p in prefixes if ipaddress.ip_network(p).version == family] or NONE[family]


def _matches(family: int, prefixes: tuple[PrefixMatch, ...]) -> list[str]:
    return [p.text for p in prefixes if ipaddress.ip_network(p.cidr).version == family]


def _foreign(speaker: Speaker) -> str:
    """The condition of a route that somebody of another AS has told; "" where there is nobody."""
    found = [s for s in speaker.sessions if not s.node and s.remote_as != s.local_as]
    names = [f'proto ~ "{s.name}_*"' if s.dynamic else f'proto = "{s.name}"' for s in found]
    return " || ".join(names)


def _check(speaker: Speaker, log: str) -> None:
    if check_text(log):
        raise InvalidInput(f"the path {check_text(log)}", log, "choose another state directory")
    for name in speaker.uplinks:  # the kernel takes all but spaces, "/" and ":" in a link's name
        if check_text(name):
            raise InvalidInput(f"its name {check_text(name)}", f"link {name!r}", "give it another name")
    for session in speaker.sessions:
        for text, longest, what in (
            (session.description, 255, "description"),
            (session.password, MAX_PASSWORD, "password"),
        ):
            problem = check_text(text, longest)
            if problem:
                raise InvalidInput(f"the {what} {problem}", f"BGP session {session.name}", "choose another")


def _condition(rule: Rule) -> str:
    """Every part in parentheses: && and || bind alike in BIRD, from the left."""
    parts = []
    for family, kind in ((4, "NET_IP4"), (6, "NET_IP6")):
        if matches := _matches(family, rule.prefixes):
            parts.append(f"(net.type = {kind} && net ~ [ {', '.join(matches)} ])")
    conditions = [f"({' || '.join(parts)})"] if parts else []
    told = [f"{_value(community)} ~ {_attribute(community)}" for community in rule.communities]
    if told:
        conditions.append(f"({' || '.join(told)})")
    if rule.as_path_has:
        conditions.append(f"bgp_path ~ [= * {rule.as_path_has} * =]")
    return " && ".join(conditions) or "true"


def _attribute(community: str) -> str:
    return "bgp_community" if community.count(":") == 1 else "bgp_large_community"


def _value(community: str) -> str:
    if community.count(":") not in (1, 2):
        raise ValueError(f"{community!r} is neither A:B nor A:B:C")
    return f"({', '.join(str(int(part)) for part in community.split(':'))})"
