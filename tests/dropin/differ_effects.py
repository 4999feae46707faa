"""What packet filters do to packets, seen by sending some: rules of two makers are never the same text."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from podway.kernel import namespaces

PATIENCE = 0.25  # seconds that a packet is waited for; sent anew TRIES times
TRIES = 8
ECHO = 7007
NODE = {4: "198.51.100.2", 6: "fd00:51::2"}
OUTSIDE = {4: "198.51.100.1", 6: "fd00:51::1"}
_ETHERTYPE = 0x88B5  # for local experiments, IEEE 802
_EVERYBODY, _FORGED = b"\xff" * 6, bytes.fromhex("0200deadbeef")
_SCTP = 132
_KINDS = {
    "udp": (socket.SOCK_DGRAM, 0),
    "tcp": (socket.SOCK_STREAM, 0),
    "sctp": (socket.SOCK_STREAM, _SCTP),
}


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


def _socket(where: str, family: int, kind: str, port: int = 0) -> socket.socket:
    with inside(where):
        made = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, *_KINDS[kind])
    made.settimeout(PATIENCE)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::" if family == 6 else "0.0.0.0", port))
    return made


def effects(
    capabilities: dict[str, Any], addresses: list[str], container: str, others: dict[str, list[str]]
) -> dict[str, str]:
    """ "FROM to WHAT" → "as SOURCE" where it was answered, else "no answer".

    ``others``: addresses of other containers."""
    found: dict[str, str] = {}
    for address in addresses:
        family = _family(address)
        ways = {
            f"pod to outside, IPv{family}": (container, family, OUTSIDE[family], ECHO, address),
            f"outside to pod, IPv{family}": ("outside", family, address, ECHO, address),
        }
        with _served("outside", family, ECHO), _served(container, family, ECHO):
            found |= _ask_all(ways)
        for one in capabilities.get("portMappings", ()):
            found |= _published(one, container, family, address)
    for name, theirs in others.items():
        for one in theirs:
            found |= _neighbour(container, name, one, addresses)
    return found


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _published(one: dict[str, Any], container: str, family: int, address: str) -> dict[str, str]:
    kind = one.get("protocol", "tcp").lower()
    if kind == "sctp" and not _has_sctp():  # nor has any pod
        return {}
    port = one["hostPort"]
    ways = {
        f"{where or 'node'} to {target}:{port}": (where, family, target, port, address, kind)
        for where, target in _ways(container, family)
    }
    with _served(container, family, one["containerPort"], kind):
        return _ask_all(ways)


def _ways(container: str, family: int) -> list[tuple[str, str]]:
    loopback = "::1" if family == 6 else "127.0.0.1"
    return [("outside", NODE[family]), ("", NODE[family]), ("", loopback), (container, NODE[family])]


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, *_KINDS["sctp"]).close()
    except OSError:
        return False
    return True


def _neighbour(container: str, name: str, address: str, own: Iterable[str]) -> dict[str, str]:
    family = _family(address)
    source = next((one for one in own if _family(one) == family), "")
    if not source:
        return {}
    with _served(name, family, ECHO):
        return {f"{container} to {name}, IPv{family}": _ask(container, family, address, ECHO, source)}


@contextlib.contextmanager
def _served(where: str, family: int, port: int, kind: str = "udp") -> Iterator[None]:
    """Answers whoever asks with the address that the question came from."""
    server = _socket(where, family, kind, port)
    if kind != "udp":
        server.listen()
    ending = threading.Event()

    def serve() -> None:
        while not ending.is_set():
            with contextlib.suppress(OSError):
                if kind == "udp":
                    _, source = server.recvfrom(100)
                    server.sendto(source[0].encode(), source)
                else:
                    peer, source = server.accept()
                    with peer:
                        peer.sendall(source[0].encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        server.close()


def _ask_all(ways: dict[str, tuple[Any, ...]]) -> dict[str, str]:
    """Title → answer, each asked for by ``_ask(*way)``; all at once, as waiting for none takes the time."""
    with ThreadPoolExecutor(len(ways)) as pool:
        return dict(zip(ways, pool.map(lambda way: _ask(*way), ways.values()), strict=True))


def _ask(where: str, family: int, target: str, port: int, pod: str, kind: str = "udp") -> str:
    """ "as itself" where the pod's own address is seen at the other end."""
    client = _socket(where, family, kind)
    try:
        for _ in range(TRIES):
            try:
                if kind == "udp":
                    client.sendto(b"?", (target, port))
                else:
                    client.close()
                    client = _socket(where, family, kind)
                    client.connect((target, port))
                source = client.recv(100).decode()
            except TimeoutError:
                continue
            except OSError:
                return "no answer"
            return "as itself" if source == pod else f"as {source}"
        return "no answer"
    finally:
        client.close()


def frames(container: str, ifname: str, bridge: str) -> dict[str, str]:
    """Whether a bridge hears a pod by its own MAC, and by another."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        ear = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE)))
        ear.bind((bridge, _ETHERTYPE))
        ear.settimeout(PATIENCE)
        with inside(container):
            mouth = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        mouth.bind((ifname, 0))
        own: bytes = mouth.getsockname()[4]
        for title, mac, tries in (("frame", own, TRIES), ("forged frame", _FORGED, 2)):
            heard = any(_heard(mouth, ear, mac) for _ in range(tries))
            found[f"{title} to {bridge}"] = "heard" if heard else "not heard"
    return found


def _heard(mouth: socket.socket, ear: socket.socket, mac: bytes) -> bool:
    mouth.send(_EVERYBODY + mac + _ETHERTYPE.to_bytes(2) + bytes(46))
    try:
        return ear.recv(100)[6:12] == mac
    except TimeoutError:
        return False
