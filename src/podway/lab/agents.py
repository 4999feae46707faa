"""The agents of a lab: one per node, in its network namespace, with its own state directory and socket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from podway.cni.install import fallback_command, install
from podway.lab.attach import Runtime
from podway.lab.place import Place
from podway.lab.topology import Topology
from podway.lab.wiring import inside
from podway.model.errors import PodwayError, Unavailable
from podway.observe import client

READY, READY_EACH = 120.0, 2.0  # seconds, and so many for each node: they start on the same few cores
SETTLED = 60.0
PROVING = 3.0  # seconds: a path that isn't proved by then won't be soon
PAUSE, LONGEST_PAUSE = 0.02, 1.0
LOG_LINES = 5
FEW = 8  # agents that start as soon without the others' bytecode
WARM = "import podway.cli.main, podway.cli.agent, podway.agent.agent"

#: The command itself, in the interpreter that runs the lab; -P: no module of the current directory.
PODWAY = [sys.executable, "-P", "-c", "from podway.cli.main import main; main()"]


class Agents:
    """The agents of some nodes, or of all; they outlive who started them."""

    def __init__(self, place: Place, topology: Topology, nodes: Sequence[str] | None = None) -> None:
        self._place = place
        self._topology = topology
        self._nodes = [node.name for node in topology.of("node")] if nodes is None else list(nodes)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start every node's agent; ``wait`` says when they answer."""
        bytecode = self._bytecode()
        for node in self._nodes:
            directory = self._place.node(node)
            directory.mkdir(exist_ok=True)
            environment = os.environ | bytecode | self._place.environment(node)
            with open(directory / "agent.log", "ab") as log:
                self._running[node] = subprocess.Popen(
                    [*self._place.enter(node), *PODWAY, "agent", "--listen", ""],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # no terminal's Ctrl-C or end is an agent's
                )

    def _bytecode(self) -> dict[str, str]:
        """Compiled once for all agents, where Python was told to leave no bytecode beside its source."""
        if not sys.dont_write_bytecode:
            return {}
        own = {"PYTHONPYCACHEPREFIX": f"{self._place.directory}/pycache", "PYTHONDONTWRITEBYTECODE": ""}
        if len(self._nodes) > FEW:  # else all would compile at the same time
            subprocess.run([sys.executable, "-P", "-c", WARM], env=os.environ | own, check=False)
        return own

    def apply(self) -> None:
        """``podway apply`` of the lab's documents."""
        documents = self._place.directory / "network.yaml"
        documents.write_text("---\n".join(json.dumps(one) + "\n" for one in self._topology.documents))
        command = [
            *self._place.by_the_store(),
            *PODWAY,
            "apply",
            "--store",
            self._place.store,
            "-f",
            str(documents),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            words = done.stderr.strip() or done.stdout.strip()
            raise Unavailable(words.removeprefix("error: "), "podway apply of the lab's documents")

    def install(self) -> None:
        """Executable and conflist, as ``podway cni install`` writes them, for every node."""
        for node in self._nodes:
            command = fallback_command(node, str(self._place.node(node) / "state"), self._place.store)
            directory, socket = self._place.node(node) / "net.d", str(self._place.socket(node))
            for network in self._topology.networks:
                install(self._place.plugins, directory, network, socket, command)

    def wait(self, progress: Callable[[int], None]) -> None:
        """Until every agent could serve an ADD. Raises Unavailable with the reason when one can't."""
        waiting = dict.fromkeys(self._nodes, (0.0, PAUSE))  # node → when to ask, and the pause after it
        deadline = time.monotonic() + READY + READY_EACH * len(waiting)
        trouble = ""
        while waiting:
            node = min(waiting, key=lambda one: waiting[one])
            due, pause = waiting.pop(node)
            time.sleep(max(0.0, due - time.monotonic()))
            if self._running[node].poll() is not None:
                raise Unavailable(f"the agent ended: {self._log(node)}", node)
            trouble = self._trouble(node)
            if trouble:  # asked less and less often: a hundred that start need the processors themselves
                waiting[node] = (time.monotonic() + pause, min(pause * 1.5, LONGEST_PAUSE))
            else:
                progress(len(self._nodes) - len(waiting))
            if time.monotonic() > deadline and waiting:
                raise Unavailable(f"the agent is not ready: {trouble}", next(iter(waiting)))

    def _trouble(self, node: str) -> str:
        """Why a node could not serve an ADD now; "" when it could."""
        if not self._place.node(node).joinpath("agent.sock").exists():
            return "it does not listen"  # asked now, the plugin would do without it, slowly
        try:
            for network in self._topology.networks:
                Runtime(self._place, self._topology).status(node, network)
        except PodwayError as error:
            return error.what
        return ""

    def _log(self, node: str) -> str:
        text = (self._place.node(node) / "agent.log").read_text(errors="replace")
        return " | ".join(text.strip().splitlines()[-LOG_LINES:])

    def settle(self, progress: Callable[[int], None]) -> None:
        """Until no agent would change anything, and so every peer is programmed; or SETTLED is over."""
        from podway.node.preview import preview

        deadline = time.monotonic() + SETTLED
        for done, node in enumerate(self._nodes, 1):
            while time.monotonic() < deadline:
                with inside(node):
                    found = preview(node, str(self._place.node(node) / "state"), self._place.store)
                if not found.ops and not found.unlearned and not self._asks(node):
                    break
                time.sleep(PAUSE)
            progress(done)

    def _asks(self, node: str) -> bool:
        """Whether a direct path of this node may only need a moment more to be proved."""
        try:
            paths = client.choices(str(self._place.node(node) / "agent.sock"))
        except Unavailable:
            return True
        begun = time.time() - PROVING
        return any(one.path == "none" and one.address and one.since > begun for one in paths)
