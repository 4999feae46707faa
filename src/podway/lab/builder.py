"""Builds a lab from inside: wiring, the network, agents, pods; then it ends and the lab stays.

Progress goes to stdout, a JSON line each (``Progress``). Stdin is held open by whoever wants the lab:
its end before the lab is up is the end of the lab.

Run by ``init`` as ``python -m podway.lab.builder NAME DIRECTORY``.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from podway.lab import etcd, frr
from podway.lab.agents import Agents
from podway.lab.attach import Runtime
from podway.lab.place import Place
from podway.lab.wiring import inside, wire
from podway.model.errors import PodwayError


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """``done`` of ``total`` of a phase; or, last of all, ``up`` with the seconds of each phase."""

    phase: str = ""
    done: int = 0
    total: int = 0
    up: bool = False
    error: str = ""
    where: str = ""
    fix: str = ""
    seconds: dict[str, float] = {}


def tell(progress: Progress) -> None:
    """One line to whoever started the lab."""
    os.write(1, msgspec.json.encode(progress) + b"\n")


class Builder:
    """One build; ``seconds`` fills as it goes."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._saved = place.saved()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def _phase(self, name: str, total: int) -> Iterator[None]:
        tell(Progress(phase=name, total=total))
        started = time.monotonic()
        yield
        self._seconds[name] = round(time.monotonic() - started, 3)
        tell(Progress(phase=name, done=total, total=total))

    def run(self) -> None:
        """Build everything. Raises PodwayError."""
        topology = self._saved.topology
        nodes = topology.of("node")
        with self._phase("wiring", len(topology.machines)):
            wire(topology)
        if topology.etcd:
            with self._phase("store", 1), inside(topology.etcd):
                etcd.start(topology, self._place.by_the_store(), self._place.directory)
        speaking = [machine for machine in topology.machines if machine.bgp]
        if speaking:
            with self._phase("routers", len(speaking)):
                for machine in speaking:
                    with inside(machine.name):
                        frr.start(topology, machine)
        agents = Agents(self._place, topology)
        with self._phase("agents", len(nodes)):
            agents.start()
            agents.apply()
            agents.install()
            agents.wait(lambda done: tell(Progress("agents", done, len(nodes))))
        pods = [(node.name, pod) for node in nodes for pod in node.pods]
        with self._phase("pods", len(pods)):
            Runtime(self._place, topology).attach_all(
                pods, lambda done: tell(Progress("pods", done, len(pods)))
            )
        with self._phase("routes", len(nodes)):
            agents.settle(lambda done: tell(Progress("routes", done, len(nodes))))
        saved = msgspec.structs.replace(self._saved, up=True, seconds=self._seconds)
        self._place.save(saved)
        tell(Progress(up=True, seconds=self._seconds))


def _follow_starter() -> None:
    """Nothing is ever written to stdin: reading returns when its other end is closed."""
    os.read(0, 1)
    os._exit(3)


def main() -> None:
    """Build, or say why not and fail; the init then ends the lab."""
    name, directory = sys.argv[1:]
    threading.Thread(target=_follow_starter, daemon=True).start()
    try:
        Builder(Place(name, Path(directory))).run()
    except PodwayError as error:
        tell(Progress(error=error.what, where=error.where, fix=error.fix))
        os._exit(1)
    except BaseException as error:
        tell(Progress(error=f"{type(error).__name__}: {error}", where="lab builder"))
        raise
    os._exit(0)


if __name__ == "__main__":
    main()
