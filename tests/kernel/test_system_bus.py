"""Questions to the system bus, against servers that answer as buses do, otherwise, or not at all."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podway.kernel.system_bus import Refused, system_bus

GET = ("org.example", "/org/example", "org.example.zone.get")
Serve = Callable[[socket.socket], object]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Serve], None]]:
    """Takes what is to be done with the next connection."""
    threads = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/bus")
        listening.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"tcp:host=x;unix:path={tmp_path}/%62us,guid=1")

        def begin(serve: Serve) -> None:
            def work() -> None:
                with listening.accept()[0] as there:
                    serve(there)

            threads.append(threading.Thread(target=work))
            threads[-1].start()

        yield begin
        for thread in threads:
            thread.join()


def message(kind: int, reply: int, text: str, name: str = "") -> bytes:
    """One that answers."""
    fields = bytes((5, 1, ord("u"), 0)) + struct.pack("<I", reply)
    if name:
        raw = name.encode()
        fields += bytes((4, 1, ord("s"), 0)) + struct.pack("<I", len(raw)) + raw + b"\0"
        fields += b"\0" * (-len(fields) % 8)
    fields += bytes((8, 1, ord("g"), 0, 1)) + b"s\0"
    raw = text.encode()
    body = struct.pack("<I", len(raw)) + raw + b"\0"
    head = struct.pack("<BBBBIII", ord("l"), kind, 0, 1, len(body), 1, len(fields))
    return head + fields + b"\0" * (-len(fields) % 8) + body


def greeted(there: socket.socket) -> None:
    """Up to the answer to Hello."""
    there.recv(4096)
    there.sendall(b"OK 0123\r\n")
    said = there.recv(4096)
    while said and b"Hello" not in said:
        said = there.recv(4096)
    there.sendall(message(2, 1, ":1.7"))


def test_answers_and_refusals(served: Callable[[Serve], None]) -> None:
    """A service that isn't there isn't started by the question (the flag NO_AUTO_START)."""
    flags = []

    def serve(there: socket.socket) -> None:
        greeted(there)
        flags.append(there.recv(4096)[2])
        there.sendall(message(2, 2, "zürich"))
        there.recv(4096)
        there.sendall(message(3, 3, "UNKNOWN_SOURCE: no", "org.example.Error"))
        while there.recv(4096):
            pass

    served(serve)
    with system_bus(30) as bus:
        assert bus.ask(*GET, "x") == "zürich"
        with pytest.raises(Refused, match="UNKNOWN_SOURCE") as refused:
            bus.ask(*GET)
        assert refused.value.name == "org.example.Error"
    assert flags == [2]


SILENT = {
    "refuses": lambda there: there.sendall(b"REJECTED EXTERNAL\r\n"),
    "hangs up": lambda there: there.recv(1),
    "says nothing": lambda there: (there.recv(4096), there.recv(4096)),
    "is no bus": lambda there: (there.sendall(b"OK 1\r\nHTTP/1.1 400 Bad Request\r\n\r\n"), there.recv(4096)),
    "cuts off": lambda there: (greeted(there), there.sendall(message(2, 2, "x")[:20])),
    "lies": lambda there: (greeted(there), there.sendall(message(2, 2, "x")[:-6] + b"\xff" * 6)),
}


@pytest.mark.parametrize("how", SILENT)
def test_a_bus_that_is_none(served: Callable[[Serve], None], how: str) -> None:
    """An OSError, and in time."""
    served(SILENT[how])
    with pytest.raises(OSError), system_bus(0.5 if how == "says nothing" else 30) as bus:
        bus.ask(*GET, "x")


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(FileNotFoundError), system_bus(1):
        raise AssertionError
