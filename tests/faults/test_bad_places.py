"""A state directory that is full or read-only, and input that nobody should send: an error document on
stdout and an exit code, never a traceback; and when the place is good again, it goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podway.kernel import namespaces
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

NETWORK = {"pools": [{"cidr": "10.244.0.0/16"}]}
CONF = {"cniVersion": "1.0.0", "name": "pods", "type": "podway-cni", "network": "pods"}


class Place:
    """A mount namespace with a small file system for the state directory, held by a process."""

    def __init__(self, directory: Path, pod: int) -> None:
        self.state, self.url, self.pod = directory / "state", f"sqlite:{directory}/store.db", pod
        self.state.mkdir()
        store = open_store(self.url, create=True)
        store.create(Record(kind="Network", name="pods", spec=json.dumps(NETWORK).encode()))
        store.close()
        script = f"mount -t tmpfs -o size=512k tmpfs {self.state} && echo ready && exec sleep 1000"
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout is not None and self.holder.stdout.readline() == "ready\n"

    def inside(self, *command: str) -> None:
        subprocess.run([*self.prefix, *command], check=True, capture_output=True)

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", "--"]

    def call(self, command: str, stdin: bytes | None = None) -> tuple[int, dict]:  # type: ignore[type-arg]
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/proc/{os.getpid()}/fd/{self.pod}",
            "CNI_PATH": "/opt/cni/bin",
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        options = ["--node", "a", "--state-dir", str(self.state), "--store", self.url]
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "podway.cni.inprocess", *options],
            input=json.dumps(CONF).encode() if stdin is None else stdin,
            capture_output=True,
            env=environment,
            check=False,
            timeout=60,
        )
        assert b"Traceback" not in done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.fixture
def place(tmp_path: Path, in_namespace: int, pod_namespace: int) -> Iterator[Place]:
    made = Place(tmp_path, pod_namespace)
    yield made
    made.holder.kill()
    made.holder.wait()


def _in_pod(place: Place) -> str:
    with namespaces.entered(place.pod):
        return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def _refused(answer: tuple[int, dict], words: str) -> None:  # type: ignore[type-arg]
    code, document = answer
    assert code == 1 and document["code"] and words in json.dumps(document), document


def test_no_room_and_room_again(place: Place) -> None:
    place.inside("sh", "-c", f"head -c 1M /dev/zero > {place.state}/filler || true")
    _refused(place.call("ADD"), "state")
    _refused(place.call("STATUS"), "state")
    assert "eth0" not in _in_pod(place)
    place.inside("rm", f"{place.state}/filler")
    assert place.call("ADD")[0] == 0
    place.inside("sh", "-c", f"head -c 1M /dev/zero > {place.state}/filler || true")
    _refused(place.call("DEL"), "state")
    place.inside("rm", f"{place.state}/filler")
    assert place.call("DEL")[0] == 0
    assert "eth0" not in _in_pod(place)


def test_read_only_and_writable_again(place: Place) -> None:
    assert place.call("ADD")[0] == 0
    place.inside("mount", "-o", "remount,ro", str(place.state))
    _refused(place.call("DEL"), "state directory")
    _refused(place.call("STATUS"), "state directory")
    assert "eth0" in _in_pod(place)
    place.inside("mount", "-o", "remount,rw", str(place.state))
    assert place.call("DEL")[0] == 0


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"cniVersion": "\xff\xfe"}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        json.dumps(CONF | {"padding": "x" * 10_000_000}).encode(),
        json.dumps(CONF | {"network": 7}).encode(),
        json.dumps(CONF | {"network": "nowhere"}).encode(),
    ],
    ids=["empty", "cut", "list", "null", "no-utf8", "deep-list", "deep-map", "10MB", "type", "unknown"],
)
def test_input_that_nobody_should_send(place: Place, stdin: bytes) -> None:
    code, document = place.call("ADD", stdin)
    if code == 0:  # 10 MB of a field that nobody knows is a legal configuration
        assert len(stdin) > 10_000_000
    else:
        assert document["code"] and document["msg"]
        assert "eth0" not in _in_pod(place)
