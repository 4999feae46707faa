"""iptables: the tables of iptables-legacy, which nftables doesn't see, by the command that speaks to them.

A namespace without such tables costs one look into /proc, and none is made by looking. In iptables-nft's
chains a rule with a connection's state has to be iptables-nft's own, or it can't list the chain any more.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
from collections.abc import Iterable

from podway.model.errors import Unavailable
from podway.model.gate import Gate, Where

COMMANDS = {
    ("iptables-legacy", "ip"): "iptables-legacy",
    ("iptables-legacy", "ip6"): "ip6tables-legacy",
    ("nftables", "ip"): "iptables-nft",
    ("nftables", "ip6"): "ip6tables-nft",
}
TABLES = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}
WAIT = ("-w", "5")  # seconds for the lock that all its calls share
PATIENCE = 30.0  # seconds for a call
DROPS = ("DROP", "REJECT")


def places() -> list[Where]:
    """The FORWARD chains of this namespace."""
    return tables("filter", "FORWARD")


def tables(name: str, chain: str = "") -> list[Where]:
    """A table of iptables-legacy where this namespace has it; of its chains that one."""
    found: list[Where] = []
    for family, file in TABLES.items():
        with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{file}") as names:
            if name in names.read().split():
                found.append(Where("iptables-legacy", family, name, chain))
    return found


def rules(where: Where) -> list[list[str]]:
    """The chain's policy and rules as words: -P FORWARD DROP, -A FORWARD -s …"""
    return [shlex.split(line) for line in run(where, "-S", where.chain).splitlines()]


def gate(where: Where, lines: list[list[str]]) -> Gate | None:
    """What of a chain drops all that no rule accepted: its last rule, or the policy."""
    last = lines[-1] if lines else []
    if last[:1] == ["-A"] and len(last) > 3 and last[2] == "-j" and last[3] in DROPS:
        return Gate(where, f"its rule {len(lines) - 1}, {' '.join(last)}")
    if ["-P", where.chain, "DROP"] in lines:
        return Gate(where, "its policy is DROP")
    return None


def shares(where: Where) -> bool:
    """Whether iptables-nft may be the one that keeps this chain of nftables."""
    known = (where.firewall, where.family) in COMMANDS
    return known and where.firewall == "nftables" and (where.table, where.chain) == ("filter", "FORWARD")


def run(where: Where, *arguments: str) -> str:
    """One call; its output. Raises Unavailable when the command is missing, OSError with its words."""
    command = COMMANDS[where.firewall, where.family]
    return _execute([command, *WAIT, "-t", where.table, *arguments])


def restore(where: Where, lines: Iterable[str]) -> None:
    """Carry out all lines for a table or none, as iptables-restore has them. Raises as ``run``."""
    command = f"{COMMANDS[where.firewall, where.family]}-restore"
    text = "\n".join((f"*{where.table}", *lines, "COMMIT", ""))
    _execute([command, *WAIT, "--noflush"], text)


def _execute(words: list[str], stdin: str = "") -> str:
    import subprocess  # a call without an agent seldom needs it, and starts sooner without

    command = words[0]
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError as error:
        why = f"tables of {command} are in use, and can't be looked at"
        raise Unavailable(why, f"there is no {command}", "apt install iptables") from error
    except subprocess.TimeoutExpired as error:
        raise OSError(errno.ETIMEDOUT, f"{command} did not end within {PATIENCE:.0f} s") from error
    if done.returncode:
        raise OSError(done.returncode, done.stderr.strip())
    return done.stdout
