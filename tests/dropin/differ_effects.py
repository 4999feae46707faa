"""What packet filters do to packets, seen by sending some: rules of two makers are never the same text."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

from podway.kernel import namespaces

PATIENCE = 0.25  # seconds that a packet is waited for; sent anew TRIES times
TRIES = 8
ECHO = 7007
NODE = {4: "198.51.100.2", 6: "fd00:51::2"}
OUTSIDE = {4: "198.51.100.1", 6: "fd00:51::1"}


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread in a named namespace; "" is the one it is in."""
    if not name:
        yield
        return
    fd = namespaces.open_namespace(f"/run/netns/{name}")
    try:
        with namespaces.entered(fd):
            yield
    finally:
        os.close(fd)


def _socket(where: str, family: int, port: int = 0) -> socket.socket:
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    with inside(where):
        made = socket.socket(kind, socket.SOCK_DGRAM)
    made.settimeout(PATIENCE)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::" if family == 6 else "0.0.0.0", port))
    return made


def effects(capabilities: dict[str, Any], addresses: list[str], container: str) -> dict[str, str]:
    """ "FROM to WHAT" → "as SOURCE" where it was answered, else "no answer"."""
    found: dict[str, str] = {}
    for address in addresses:
        family = 6 if ":" in address else 4
        with _served("outside", family, ECHO):
            found[f"pod to outside, IPv{family}"] = _ask(container, family, OUTSIDE[family], ECHO, address)
        for one in capabilities.get("portMappings", ()):
            if one.get("protocol", "tcp").lower() != "udp":
                continue
            with _served(container, family, one["containerPort"]):
                for where, target in _ways(container, family, one):
                    title = f"{where or 'node'} to {target}:{one['hostPort']}"
                    found[title] = _ask(where, family, target, one["hostPort"], address)
    return found


def _ways(container: str, family: int, one: dict[str, Any]) -> list[tuple[str, str]]:
    loopback = "::1" if family == 6 else "127.0.0.1"
    return [("outside", NODE[family]), ("", NODE[family]), ("", loopback), (container, NODE[family])]


@contextlib.contextmanager
def _served(where: str, family: int, port: int) -> Iterator[None]:
    """Answers datagrams with the address that they came from."""
    server = _socket(where, family, port)
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            with contextlib.suppress(OSError):
                _, source = server.recvfrom(100)
                server.sendto(source[0].encode(), source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        server.close()


def _ask(where: str, family: int, target: str, port: int, pod: str) -> str:
    client = _socket(where, family)
    try:
        for _ in range(TRIES):
            try:
                client.sendto(b"?", (target, port))
                source = client.recv(100).decode()
            except TimeoutError:
                continue
            except OSError:
                return "no answer"
            return "as itself" if source == pod else f"as {source}"
        return "no answer"
    finally:
        client.close()
