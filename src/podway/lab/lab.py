"""A lab seen from outside: start one, enter one. Read this first, then ``init``, ``builder``, ``probe``.

up ─▶ init (PID 1 of its own namespaces) ─▶ builder: wiring ─▶ agents ─▶ pods ─▶ routes
exec, shell, test ─▶ nsenter into the namespaces of the init and of one machine or pod
down ─▶ SIGKILL to the init, and the directory goes
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from podway.lab import etcd, frr, neighbours, weather
from podway.lab.builder import Progress
from podway.lab.matrix import Verdict, judge
from podway.lab.place import MEMORY, NAMESPACES, Place, Saved, labs, reserve, tidy
from podway.lab.probe import Report
from podway.lab.topology import Topology
from podway.lab.way import Sighting
from podway.model import problems
from podway.model.errors import InvalidInput, Unavailable

LOG = "lab.log"
TOOLS = {"ip": "iproute2", "mount": "mount", "nsenter": "util-linux"}


def preflight() -> None:
    """Raise Unavailable with the first thing that is missing, before anything is changed."""
    from podway.kernel.preflight import require

    require()
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise Unavailable(f"the command {tool} is not installed", fix=f"apt install {package}")


def free_name(wish: str) -> str:
    """``wish``, or with the first number that makes it free."""
    taken = labs()
    names = (wish if number == 1 else f"{wish}{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def up(
    name: str, topology: Topology, directory: Path | None, progress: Callable[[Progress], None]
) -> tuple[Place, Saved]:
    """Build a lab; nothing of it is left when that fails or is interrupted.

    Raises InvalidInput, Conflict, Unavailable."""
    weather.require(topology)
    etcd.require(topology)
    frr.require(topology)
    place = reserve(name, directory, topology)
    try:
        place.save(Saved(name=name, topology=topology))
        make_room(topology)
        _build(place, progress)
        return place, place.saved()
    except BaseException:
        destroy(place)
        raise


def destroy(place: Place) -> bool:
    """End a lab, and let no second Ctrl-C end that in the middle; whether it was alive."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        alive = place.destroy()
        make_room()
        tidy()
        return alive
    finally:
        signal.signal(signal.SIGINT, before)


def make_room(*more: Topology) -> None:
    """Let the kernel's neighbour tables hold what all labs need that are alive, and ``more``."""
    alive = []
    for place in labs().values():
        with contextlib.suppress(Unavailable):  # it is just being made or removed
            alive += [place.saved().topology] if place.init() is not None else []
    neighbours.make_room(MEMORY, (*alive, *more))


def _build(place: Place, progress: Callable[[Progress], None]) -> None:
    command = [sys.executable, "-P", "-m", "podway.lab.init", place.name, str(place.directory)]
    with open(place.directory / LOG, "ab") as log:
        starter = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    with starter:
        assert starter.stdout is not None
        last = Progress()
        for line in starter.stdout:
            last = msgspec.json.decode(line, type=Progress)
            progress(last)
    if last.error:
        raise Unavailable(last.error, last.where, last.fix)
    if not last.up:
        text = (place.directory / LOG).read_text(errors="replace").strip()
        raise Unavailable(f"the lab did not start: {text or 'it was killed'}", f"lab {place.name}")


def command(place: Place, target: str, arguments: Sequence[str]) -> list[str]:
    """``arguments`` as a command that runs in a machine or pod ("" = the segments). Raises InvalidInput."""
    init = place.init()
    if init is None:
        raise Unavailable("the lab has ended", f"lab {place.name}", "podway lab down, and up again")
    net = f"/proc/{init}/ns/net"
    boot: list[str] = []
    if target:
        _known(place, target)
        net = f"/proc/{init}/root{NAMESPACES}/{target}"
        boot = place.boot(target)
    return ["nsenter", "-t", str(init), "--mount", "--pid", f"--net={net}", "--", *boot, *arguments]


def _known(place: Place, target: str) -> None:
    saved = place.saved()
    if target in saved.crashed:
        raise Unavailable(f"{target} is off", f"lab {place.name}", f"podway lab reboot {target}")
    topology = saved.running
    machines = [machine.name for machine in topology.machines]
    names = [*machines, *(pod for machine in topology.machines for pod in machine.pods)]
    if target not in names:
        raise InvalidInput(f"the lab has no {target!r}", f"lab {place.name}", problems.suggest(target, names))


def environment(place: Place, target: str) -> dict[str, str]:
    """For commands in ``target``: ``podway`` is found, and speaks of the node; a prompt says where it is."""
    own = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/sbin:/usr/bin')}",
        "debian_chroot": f"{place.name} {target}".strip(),  # Debian's and Ubuntu's bash begin prompts with it
    }
    nodes = [node.name for node in place.saved().topology.of("node")]
    if target in nodes:
        own |= place.environment(target)
    else:
        own |= {"PODWAY_STORE": place.store}
    return own


def test(place: Place, progress: Callable[[Progress], None], between: str = "all") -> list[Verdict]:
    """Try every pair of pods and nodes of a lab that is up, and what is beyond its routers.

    ``between``: "pods" or "nodes" for pairs of these alone."""
    if not place.saved().up:
        raise Unavailable("the lab is not up yet", f"lab {place.name}")
    probe = [sys.executable, "-P", "-m", "podway.lab.probe", place.name, str(place.directory), between]
    report = Report()
    with subprocess.Popen(
        command(place, "", probe), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            for line in process.stdout:
                report = msgspec.json.decode(line, type=Report)
                progress(Progress("probes", report.done, report.total))
        except BaseException:
            process.kill()
            raise
        words = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise Unavailable(f"the probing failed: {words.splitlines()[-1:]}", f"lab {place.name}")
    return judge(place.saved().running, report.spots, report.outcomes)


def run(place: Place, target: str, *arguments: str) -> str:
    """What a command in ``target`` prints. Raises Unavailable with its own words."""
    done = subprocess.run(
        command(place, target, arguments), capture_output=True, text=True, env=environment(place, target)
    )
    if done.returncode != 0:
        raise Unavailable(done.stderr.strip() or f"exit code {done.returncode}", " ".join(arguments))
    return done.stdout


def way(place: Place, sender: str, receiver: str) -> list[Sighting]:
    """Where one packet from pod to pod was seen, in order of time."""
    script = [sys.executable, "-P", "-m", "podway.lab.way", place.name, str(place.directory)]
    return msgspec.json.decode(run(place, "", *script, sender, receiver), type=list[Sighting])


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the body like Ctrl-C does, so that it tidies up."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
