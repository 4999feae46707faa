"""What packet filters do to packets, seen by sending some: rules of two makers are never the same text."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

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


class Server(NamedTuple):
    """Of ``kind`` at ``port`` of every address of a family in a namespace."""

    where: str
    family: int
    port: int
    kind: str = "udp"


class Way(NamedTuple):
    """From the namespace ``where`` to ``target``; ``pod``: the pod's own address."""

    where: str
    family: int
    target: str
    port: int
    pod: str
    kind: str = "udp"


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
    if family == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a server of its own
    made.bind(("::" if family == 6 else "0.0.0.0", port))
    return made


def effects(
    capabilities: dict[str, Any], addresses: list[str], container: str, others: dict[str, list[str]]
) -> dict[str, str]:
    """ "FROM to WHAT" → "as SOURCE" where it was answered, else "no answer".

    ``others``: addresses of other containers."""
    ways: dict[str, Way] = {}
    servers: set[Server] = set()
    for address in addresses:
        family = _family(address)
        servers |= {Server("outside", family, ECHO), Server(container, family, ECHO)}
        outward = Way(container, family, OUTSIDE[family], ECHO, address)
        ways[f"pod to outside, IPv{family}"] = outward
        ways[f"outside to pod, IPv{family}"] = outward._replace(where="outside", target=address)
        for one in capabilities.get("portMappings", ()):
            kind = one.get("protocol", "tcp").lower()
            if kind != "sctp" or _has_sctp():  # else no pod has it either
                servers.add(Server(container, family, one["containerPort"], kind))
                ways |= _published(one["hostPort"], kind, container, address)
    for name, theirs in others.items():
        for one in theirs:
            family = _family(one)
            if source := next((own for own in addresses if _family(own) == family), ""):
                servers.add(Server(name, family, ECHO))
                ways[f"{container} to {name}, IPv{family}"] = Way(container, family, one, ECHO, source)
    with served(servers):
        return asked(ways)


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _published(port: int, kind: str, container: str, address: str) -> dict[str, Way]:
    """From everywhere to a published port."""
    family = _family(address)
    loopback = "::1" if family == 6 else "127.0.0.1"
    return {
        f"{where or 'node'} to {target}:{port}": Way(where, family, target, port, address, kind)
        for where, target in (
            ("outside", NODE[family]),
            ("", NODE[family]),
            ("", loopback),
            (container, NODE[family]),
        )
    }


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, *_KINDS["sctp"]).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def served(servers: set[Server]) -> Iterator[None]:
    """Each answers whoever asks with the address that the question came from."""
    ending = threading.Event()
    with contextlib.ExitStack() as sockets, ThreadPoolExecutor(len(servers) + 1) as pool:
        try:
            for one in servers:
                made = sockets.enter_context(_socket(one.where, one.family, one.kind, one.port))
                if one.kind != "udp":
                    made.listen()
                pool.submit(_serve, made, one.kind, ending)
            yield
        finally:
            ending.set()


def _serve(server: socket.socket, kind: str, ending: threading.Event) -> None:
    while not ending.is_set():
        with contextlib.suppress(OSError):
            if kind == "udp":
                _, source = server.recvfrom(100)
                server.sendto(source[0].encode(), source)
            else:
                peer, source = server.accept()
                with peer:
                    peer.sendall(source[0].encode())


def asked(ways: dict[str, Way]) -> dict[str, str]:
    """Title → answer; all at once, since waiting for none is what takes time."""
    with ThreadPoolExecutor(len(ways) + 1) as pool:
        return dict(zip(ways, pool.map(_ask, ways.values()), strict=True))


def _ask(way: Way) -> str:
    """ "as itself" where the pod's own address is seen at the other end."""
    client = _socket(way.where, way.family, way.kind)
    try:
        for _ in range(TRIES):
            try:
                if way.kind == "udp":
                    client.sendto(b"?", (way.target, way.port))
                else:
                    client.close()
                    client = _socket(way.where, way.family, way.kind)
                    client.connect((way.target, way.port))
                source = client.recv(100).decode()
            except TimeoutError:
                continue
            except OSError:
                return "no answer"
            return "as itself" if source == way.pod else f"as {source}"
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
