"""Whose state an in-process call works on: the node's, or one of its own for another network namespace.

An agent says with ``claim`` which namespace its state describes. A call from another one must
neither wait for that agent's lock nor take its addresses: it has a directory of its own below, and
claims blocks under a node name of its own. Both are keyed by boot id and namespace cookie, because
an inode number is given again as soon as a namespace is gone, a cookie never within one boot.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h, Linux 5.14
_FILE = "namespace"
_ELSEWHERE = "elsewhere"


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def _cookie() -> str:
    with socket.socket(socket.AF_UNIX) as any_socket:
        return str(int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little"))


def claim(state_dir: str) -> None:
    """Say that ``state_dir`` is the state of this process's network namespace. For the holder of its lock."""
    path = os.path.join(state_dir, _FILE)
    with open(f"{path}.new", "w") as file:
        file.write(f"{_boot_id()} {_cookie()}\n")
    os.replace(f"{path}.new", path)


def of_caller(node: str, state_dir: str) -> tuple[str, str]:
    """(node, state directory) for a call from this process's namespace; unclaimed, it is its."""
    try:
        with open(os.path.join(state_dir, _FILE)) as file:
            boot, _, cookie = file.read().strip().partition(" ")
    except FileNotFoundError:
        return node, state_dir
    own = _cookie()
    if boot != _boot_id() or cookie == own:
        return node, state_dir
    below = os.path.join(state_dir, _ELSEWHERE)
    _forget_other_boots(below, boot)
    return f"{node}-ns{own}", os.path.join(below, f"{boot}-{own}")


def _forget_other_boots(below: str, boot: str) -> None:
    """What an earlier boot left describes namespaces that are gone."""
    import shutil  # slow to import, and hardly ever needed

    with suppress(FileNotFoundError):
        for name in os.listdir(below):
            if not name.startswith(f"{boot}-"):
                shutil.rmtree(os.path.join(below, name), ignore_errors=True)
