"""FRR's zebra, bgpd and bfdd in a namespace, and what its shell says."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bird_pair import Pair, wait

from podway.kernel import namespaces

BINARIES = Path("/usr/lib/frr")


class Frr:
    """``directory`` holds sockets, logs and pid files; FRR's own user writes there."""

    def __init__(self, pair: Pair, directory: Path, near: bool) -> None:
        self._pair = pair
        self._place = pair.near if near else pair.far
        self.directory = directory

    def start(self, configuration: str, *more: str, arguments: tuple[str, ...] = (), bfd: str = "") -> None:
        """zebra, then bgpd (with ``arguments``), and ``more``; each with the lines of its configuration."""
        told = {"bgpd": configuration, "bfdd": bfd}
        for name in ("zebra", "bgpd", *more):
            # never /dev/null: FRR opens its log file anew, and waits for whatever reads it
            text = f"log file {self.directory}/{name}.log\n" + told.get(name, "")
            (self.directory / f"{name}.conf").write_text(text)
        shutil.chown(self.directory, "frr", "frr")
        for path in self.directory.iterdir():
            shutil.chown(path, "frr", "frr")
        for name in ("zebra", "bgpd", *more):
            command = [*self._command(name), *(arguments if name == "bgpd" else ())]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            self._pair.daemon(*command, place=self._place, **quiet)
            wait((self.directory / f"{name}.vty").exists)

    def _command(self, name: str) -> list[str]:
        at = self.directory
        return [
            str(BINARIES / name),
            *("-z", f"{at}/zserv.api", "-i", f"{at}/{name}.pid", "--vty_socket", str(at)),
            *("-f", f"{at}/{name}.conf", *(["--bfdctl", f"{at}/bfdd.sock"] if name == "bfdd" else [])),
        ]

    def ask(self, command: str) -> Any:
        """The JSON answer to a command of its shell."""
        with namespaces.entered(self._place):
            shell = ["vtysh", "--vty_socket", str(self.directory), "-c", f"{command} json"]
            done = subprocess.run(shell, capture_output=True, text=True, check=False, timeout=20)
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:
            return {}

    def prefixes(self) -> set[str]:
        """What it has learned."""
        return set(self.ask("show bgp ipv4 unicast").get("routes", {}))


@contextmanager
def frr(pair: Pair, near: bool = False) -> Iterator[Frr]:
    """An FRR in the far namespace, or in the near one; what it wrote is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="frr") as place:
        Path(place).chmod(0o755)
        yield Frr(pair, Path(place), near)
