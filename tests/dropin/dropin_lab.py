"""A node of one test: drop-in executables, an agent or none, and what runtimes do with them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

import podway.cni
from podway.cni import dropin
from podway.cni.install import fallback_command
from podway.cni.shim import SETTINGS
from podway.node.database import JournalEntry
from podway.store import open_store
from readiness import awaited

COMPILED = Path(podway.cni.__file__).parent / "shim" / "podway-cni"
PATIENCE = 30.0  # seconds for what takes a fraction of one on a quiet machine


class CniFailed(Exception):
    """An error document, decoded."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(json.dumps(document))
        self.code: int = document["code"]
        self.msg: str = document["msg"]
        self.document = document


class Lab:
    """One node in this network namespace. ``foreign``: further directories of CNI_PATH."""

    def __init__(self, directory: Path, foreign: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        for name in dropin.NAMES:
            shutil.copy(COMPILED, self.bin / name)
        self.data = directory / "networks"
        self.state = directory / "state"
        self.store = f"sqlite:{directory}/store.db"
        self.socket = str(directory / "cni.sock")
        self.path = ":".join((str(self.bin), *foreign))
        self.process: subprocess.Popen[bytes] | None = None
        self.theirs = ""  # the version of the reference plugins that stand in for ours
        open_store(self.store, create=True).close()
        settings = {"socket": self.socket, "fallback": fallback_command("a", str(self.state), self.store)}
        (self.bin / SETTINGS).write_text(json.dumps(settings))

    def start(self, **environment: str) -> None:
        """Start an agent and wait until it is ready."""
        with awaited(self.directory) as told:
            options = ["--node", "a", "--store", self.store, "--state-dir", str(self.state), "--listen", ""]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "podway", "agent", *options, "--socket", self.socket],
                env=os.environ | told | environment,
                stderr=(self.directory / "log").open("ab"),
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the agent, if one runs."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
            self.process = None

    def podway(self, *arguments: str) -> str:
        """A command of the command line, about this node."""
        options = ["--node", "a", "--store", self.store, "--state-dir", str(self.state)]
        command = [sys.executable, "-m", "podway", *arguments, *options]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def journal(self) -> list[JournalEntry]:
        """The node's, oldest first."""
        printed = self.podway("journal", "-n", "1000", "-o", "json")
        return msgspec.json.decode(printed, type=list[JournalEntry])

    def call(
        self,
        command: str,
        conf: dict[str, Any],
        container: str = "c1",
        namespace: str | None = None,
        ifname: str = "eth0",
        before: Any = None,
        **environment: str,
    ) -> dict[str, Any]:
        """One execution of the plugin that ``conf`` names; its result, {} for none. Raises CniFailed."""
        body = conf if before is None else {**conf, "prevResult": before}
        stdin = json.dumps(body).encode()
        return self.execute(command, conf["type"], stdin, container, namespace, ifname, **environment)

    def execute(
        self,
        command: str,
        plugin: str,
        stdin: bytes,
        container: str,
        namespace: str | None = None,
        ifname: str = "eth0",
        **environment: str,
    ) -> dict[str, Any]:
        """The same with any bytes as the configuration."""
        env = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}" if namespace is None else namespace,
            "CNI_IFNAME": ifname,
            "CNI_PATH": self.path,
            **environment,
        }
        if command in ("GC", "STATUS"):
            env = {k: v for k, v in env.items() if k not in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME")}
        executable = next(
            path for path in (Path(one) / plugin for one in self.path.split(":")) if path.exists()
        )
        done = subprocess.run([executable], input=stdin, env=env, capture_output=True, timeout=PATIENCE)
        document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        if done.returncode:
            raise CniFailed(document)
        return document


def buried(lab: Lab) -> bool:
    """Whether all that was taken out of service is gone, which an agent does after its answer."""
    path = lab.state / "node.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        return opened.execute("SELECT count(*) FROM piece WHERE state = 'deleting'").fetchone() == (0,)


def ip(*arguments: str, inside: str = "") -> Any:
    """``ip -j ARGUMENTS`` in this namespace, or in a named one: decoded."""
    where = ["-n", inside] if inside else []
    done = subprocess.run(["ip", "-j", *where, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout) if done.stdout.strip() else []


def links(kind: str) -> list[str]:
    """Names of the links of a kind in this namespace."""
    return [one["ifname"] for one in ip("link", "show", "type", kind) if one]


def wait_for(condition: Callable[[], object], what: str = "", patience: float = PATIENCE) -> None:
    """Until it is true. Raises AssertionError after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        time.sleep(0.01)


@contextlib.contextmanager
def pods(*names: str) -> Iterator[None]:
    """Network namespaces named as containers, as a runtime makes them; the mounts are the test's own."""
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
