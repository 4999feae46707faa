"""The command as a user types it, on a store of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from podway.model.resources import BlockSpec
from podway.store import Record, open_store

DOCUMENTS = """\
apiVersion: podway.dev/v1
kind: Network
metadata: {name: pods}
spec:
  preset: flannel-host-gw
  pools:
  - cidr: 10.244.0.0/16
  - cidr: "fd00:10:244::/48"
---
apiVersion: podway.dev/v1
kind: Node
metadata: {name: a}
spec: {addresses: [192.0.2.1/24]}
"""


class Podway:
    """The command on a store of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"sqlite:{directory}/store.db"
        self.environment = os.environ | {"PODWAY_STORE": self.url, "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "podway", *arguments]

    def run(self, *arguments: str, text: str | bytes = "") -> subprocess.CompletedProcess[str]:
        raw = text.encode() if isinstance(text, str) else text
        done = subprocess.run(
            self.command(*arguments), input=raw, capture_output=True, timeout=60, env=self.environment
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        assert "Traceback" not in out + err, err
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def good(self, *arguments: str, text: str = "") -> str:
        done = self.run(*arguments, text=text)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def bad(self, *arguments: str, text: str | bytes = "", code: int = 1) -> str:
        done = self.run(*arguments, text=text)
        assert done.returncode == code, done
        assert done.stdout == ""
        return done.stderr

    def stored(self) -> list[Record]:
        with contextlib.closing(open_store(self.url, create=True)) as store:
            return [record for kind in ("Network", "Node", "Block") for record in store.list(kind)[0]]

    def put(self, *records: Record) -> None:
        with contextlib.closing(open_store(self.url, create=True)) as store:
            for record in records:
                store.create(record)

    def claim(self, cidr: str = "10.244.3.0/24") -> None:
        spec = BlockSpec(network="pods", node="a", attach="bridge")
        self.put(Record(kind="Block", name=cidr, spec=msgspec.json.encode(spec)))
