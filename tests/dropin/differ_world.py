"""One case, carried out by one set of executables in namespaces of its own, and what it left after each step.

A child process has its own network and mount namespaces: a node with an uplink to a host outside, and pods.
Its files (/run/netns, /run/cni, /var/lib/cni, the lock of iptables) are its own too.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import ipaddress
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import msgspec
from dhcp_server import Dhcpd
from differ_effects import effects, frames, inside
from differ_state import MAC, Names, State, learn, look, mentions
from dropin_lab import Lab, buried, wait_for

from podway.cni import dropin, inprocess
from podway.kernel import namespaces

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
SETTLING = 0.3  # seconds
DEADLINE = 120.0  # seconds that a side may take for one case on a loaded machine
OUTSIDE, UPLINK = "outside", "up0"
NODE4, NODE6, OUTSIDE4, OUTSIDE6 = "198.51.100.2", "fd00:51::2", "198.51.100.1", "fd00:51::1"
_OF_NOBODY = ("GC", "STATUS", "VERSION")
_ON_NODE = "node: "
_DIRECTORY = Path("/run/differential")
RESOLV_CONF = f"{_DIRECTORY}/resolv.conf"  # a file that stands on every node


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime does with the whole chain: ``command`` by every plugin, DEL in reverse.

    ``namespace``: "pod", "missing" (a path that isn't there) or "" (an empty variable). ``previous``: whether
    the result of the last ADD is handed over. ``freed``: containers that are not valid any more for a GC; a
    plugin that has no GC gets a DEL of each instead. ``damage``: a command in the pod's or (``node: …``) the
    node's namespace before."""

    command: str
    container: str = "c1"
    namespace: str = "pod"
    previous: bool = True
    freed: tuple[str, ...] = ()
    damage: str = ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Plugins as in a conflist. DATA in a text stands for a directory of the case's own."""

    version: str
    plugins: tuple[dict[str, Any], ...]
    steps: tuple[Step, ...]
    capabilities: dict[str, Any] = {}
    arguments: str = ""
    before: tuple[str, ...] = ()  # commands that prepare the node
    within: tuple[str, ...] = ()  # commands that prepare each pod
    ifname: str = "eth0"

    @property
    def macs(self) -> tuple[str, ...]:
        """Those that are asked for, which must come out as they are."""
        said = json.dumps([self.plugins, self.capabilities, self.arguments, self.before])
        return tuple(MAC.findall(said))


class Side(msgspec.Struct, frozen=True):
    """A set of plugins: the reference's in ``directory``, but for the names that are ``ours``.

    ``agent``: ours are the compiled executables, with an agent; else their code runs in this process."""

    name: str
    directory: str
    ours: tuple[str, ...] = ()
    agent: bool = False


def together(case: Case, sides: tuple[Side, ...]) -> list[dict[str, Any]]:
    """What each side answered and left, path → value; all at once. Raises RuntimeError if one breaks."""
    running = [_fork(case, side) for side in sides]
    return [_reap(pid, fd, side) for (pid, fd), side in zip(running, sides, strict=True)]


def _fork(case: Case, side: Side) -> tuple[int, int]:
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    os.setsid()
    status = 1
    try:
        os.close(reading)
        signal.alarm(int(DEADLINE))
        with contextlib.redirect_stdout(io.StringIO()):
            told = _World(case, side).run()
        _write(writing, json.dumps(told).encode())
        status = 0
    except BaseException:
        _write(writing, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _reap(pid: int, fd: int, side: Side) -> dict[str, Any]:
    parts, deadline = [], time.monotonic() + DEADLINE + 10
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(fd, 1 << 20)
        if not part:
            break
        parts.append(part)
    os.close(fd)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    text = b"".join(parts).decode()
    if status != 0 and not text.startswith("{"):
        raise RuntimeError(f"{side.name}: {text or status}")
    found: dict[str, Any] = json.loads(text)
    return found


def _run(command: str) -> None:
    done = subprocess.run(command.split(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


class _World:
    """In the child: the namespaces, and the steps."""

    def __init__(self, case: Case, side: Side) -> None:
        self._case = case
        self._side = side
        self._names = Names(case.macs)
        self._directory = _DIRECTORY
        self._results: dict[str, Any] = {}  # container → result of the chain
        self._texts: dict[str, str] = {}  # path of an answer → the error's own words
        self._lab: Lab | None = None
        self._server: Dhcpd | None = None

    def run(self) -> dict[str, Any]:
        """ "NUMBER COMMAND" → what was answered, and the state then; "texts" of errors. From a damage on,
        titles say "damaged" (the node) or "changed" (the pod)."""
        self._isolate()
        self._build()
        told: dict[str, Any] = {"texts": self._texts}
        since = ""
        try:
            for number, step in enumerate(self._case.steps):
                if step.damage:
                    since = " damaged" if step.damage.startswith(_ON_NODE) else " changed"
                where = " nowhere" if step.namespace == "missing" else since
                title = f"{number} {step.command}{where}"
                told[title] = self._step(step, title)
        finally:
            if self._lab is not None:
                self._lab.stop()
        return told

    def _isolate(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespaces.unshare()
        assert libc.unshare(CLONE_NEWNS) == 0, "unshare"
        assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0, "mount"
        for place in ("/run/netns", "/run/cni", "/var/lib/cni", str(self._directory)):
            Path(place).mkdir(parents=True, exist_ok=True)
            assert libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, None) == 0, place
        lock = self._directory / "xtables.lock"
        lock.touch()
        Path("/run/xtables.lock").touch()
        assert libc.mount(str(lock).encode(), b"/run/xtables.lock", None, 0x1000, None) == 0, "xtables.lock"

    def _build(self) -> None:
        containers = {step.container for step in self._case.steps}
        for name in (OUTSIDE, *containers):
            _run(f"ip netns add {name}")
            _run(f"ip -n {name} link set lo up")
        _run("ip link set lo up")
        # else addresses of IPv6 are tentative, and a packet's way depends on the moment
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        _run(f"ip link add {UPLINK} type veth peer name up1 netns {OUTSIDE}")
        for where, link, four, six in (("", UPLINK, NODE4, NODE6), (OUTSIDE, "up1", OUTSIDE4, OUTSIDE6)):
            at = f"ip -n {where}" if where else "ip"
            _run(f"{at} addr add {four}/24 dev {link}")
            _run(f"{at} addr add {six}/64 dev {link} nodad")
            _run(f"{at} link set {link} up")
        _run(f"ip route add default via {OUTSIDE4}")
        _run(f"ip -6 route add default via {OUTSIDE6}")
        _run(f"ip -n {OUTSIDE} route add 10.0.0.0/8 via {NODE4}")
        _run(f"ip -n {OUTSIDE} -6 route add fd00:10::/32 via {NODE6}")
        for command in self._case.before:
            _run(command)
        for name in containers:
            with inside(name):
                for command in self._case.within:
                    _run(command)
        Path(RESOLV_CONF).write_text(
            "nameserver 192.0.2.54\ndomain example.test\nsearch a.test b.test\noptions ndots:3\n"
        )
        if any(one.get("ipam", {}).get("type") == "dhcp" for one in self._case.plugins):
            self._serve()
        if self._side.agent:
            (self._directory / "lab").mkdir()
            self._lab = Lab(self._directory / "lab", (self._side.directory,))
            for name in set(dropin.NAMES) - set(self._side.ours):
                (self._lab.bin / name).unlink()
            self._lab.start()

    def _serve(self) -> None:
        """A DHCP server outside, and the reference plugin's daemon; they end with this process's session."""
        self._server = Dhcpd(OUTSIDE, self._directory, "up1", OUTSIDE4.rpartition(".")[0])
        self._server.start(50, "--dhcp-sequential-ip")
        if "dhcp" not in self._side.ours:
            subprocess.Popen([f"{self._side.directory}/dhcp", "daemon"], stderr=subprocess.DEVNULL)
            wait_for(lambda: Path("/run/cni/dhcp.sock").exists(), "the daemon listens")

    def _leases(self) -> list[str]:
        """What the server has lent, once it has heard what was sent to it."""
        if self._server is None:
            return []
        time.sleep(SETTLING)
        return sorted(self._server.leases)

    def _step(self, step: Step, title: str) -> dict[str, Any]:
        if step.damage:
            self._damage(step)
        for container in step.freed:  # as libcni does, before its GC
            gone = Step(command="DEL", container=container)
            theirs = tuple(one for one in self._case.plugins if one["type"] not in self._side.ours)
            self._chain(gone, theirs)
        answers = self._chain(step)
        for at, one in enumerate(answers):
            self._texts[f"/{title}/answers/{at}"] = one.pop("text", "")
        if self._lab is not None:
            wait_for(lambda lab=self._lab: buried(lab))
        if step.command in _OF_NOBODY:
            return {"answers": self._names.apply(answers)} | (
                self._state(step) if step.command == "GC" else {}
            )
        failed = any(one["failed"] for one in answers)
        return {**self._state(step, failed), "answers": self._names.apply(answers)}

    def _damage(self, step: Step) -> None:
        on_node, command = step.damage.startswith(_ON_NODE), step.damage.removeprefix(_ON_NODE)
        with contextlib.nullcontext() if on_node else inside(step.container):
            subprocess.run(["sh", "-c", command], capture_output=True)

    def _state(self, step: Step, failed: bool = False) -> State:
        node = look("node", self._names)
        with inside(step.container):
            pod = look("pod", self._names)
        held = self._results.get(step.container) or {}
        addresses = _bare(held)
        reached = self._reached(step, addresses, not failed) if step.command == "ADD" else {}
        gone = [step.container] if step.command == "DEL" else list(step.freed)
        words = [word for one in gone for word in (*_bare(self._results.get(one) or {}), one)]
        return {
            "node": node,
            "pod": pod,
            "effects": reached,
            "rules of the gone": mentions(*words),
            "files": self._files(),
            "leases": self._leases(),
        }

    def _reached(self, step: Step, addresses: list[str], whole: bool) -> dict[str, str]:
        """Where packets go, and the frames of a bridge's port once the chain is ``whole``."""
        asked = any(one.get("capabilities", {}).get("portMappings") for one in self._case.plugins)
        told = self._case.capabilities if asked else {}
        others = {name: _bare(held) for name, held in self._results.items() if name != step.container}
        found = effects(told, addresses, step.container, others)
        bridges = [one["bridge"] for one in self._case.plugins if one["type"] == "bridge"]
        for name in bridges if whole else ():
            found |= frames(step.container, self._case.ifname, name)
        return found

    def _files(self) -> dict[str, bool]:
        """Address files of host-local and what tuning keeps, by name."""
        root = self._directory / "data"
        found = (path for path in root.rglob("*") if path.is_file())
        return {p.name: True for p in found if p.name != "lock"}

    def _chain(self, step: Step, only: tuple[dict[str, Any], ...] | None = None) -> list[Any]:
        """Each plugin's answer. As runtimes do, ADD stops at the first error."""
        plugins = list(self._case.plugins if only is None else only)
        if step.command == "DEL":
            plugins.reverse()
        answers = []
        result = self._results.get(step.container) if step.command != "ADD" and step.previous else None
        for plugin in plugins:
            code, document = self._call(step, plugin, result)
            told = _said(document) if code else {"answer": document or {}}
            answers.append({"type": plugin["type"], "failed": code != 0, **told})
            if step.command == "ADD":
                if code != 0:
                    return answers
                result = document
                if len(answers) == 1:
                    self._learn(step)
            if step.command == "STATUS" and code != 0:
                return answers
        if step.command == "ADD":
            self._results[step.container] = result
        return answers

    def _learn(self, step: Step) -> None:
        """What the first plugin made, as its answer has it."""
        learn("node", self._names)
        with inside(step.container):
            learn("pod", self._names)

    def _call(self, step: Step, plugin: dict[str, Any], result: Any) -> tuple[int, Any]:
        body = json.loads(json.dumps(plugin).replace("DATA", str(self._directory / "data")))
        body |= {"name": "differ", "cniVersion": self._case.version}
        wanted = body.get("capabilities", {})
        runtime = {key: value for key, value in self._case.capabilities.items() if wanted.get(key)}
        if runtime:
            body["runtimeConfig"] = runtime
        if result is not None:
            body["prevResult"] = result
        if step.command == "GC":
            valid = {one.container for one in self._case.steps} - set(step.freed)  # whose ADD failed, too
            body["cni.dev/valid-attachments"] = [
                {"containerID": one, "ifname": self._case.ifname} for one in sorted(valid)
            ]
        path = {"pod": f"/run/netns/{step.container}", "missing": "/run/netns/none", "": ""}[step.namespace]
        environment = {
            "CNI_COMMAND": step.command,
            "CNI_PATH": self._lab.path if self._lab is not None else self._side.directory,
            "PATH": os.environ["PATH"],
        }
        if step.command not in _OF_NOBODY:
            named = {"CNI_CONTAINERID": step.container, "CNI_NETNS": path, "CNI_IFNAME": self._case.ifname}
            environment |= named | ({"CNI_ARGS": self._case.arguments} if self._case.arguments else {})
        code, out = self._execute(plugin["type"], environment, json.dumps(body).encode())
        return code, json.loads(out) if out.strip() else None

    def _execute(self, name: str, environment: dict[str, str], stdin: bytes) -> tuple[int, bytes]:
        if name in self._side.ours and self._lab is None:
            return self._ours(name, environment, stdin)
        directory = (
            self._lab.bin if self._lab is not None and name in self._side.ours else self._side.directory
        )
        done = subprocess.run(
            [f"{directory}/{name}"], env=environment, input=stdin, capture_output=True, timeout=60
        )
        return done.returncode, done.stdout

    def _ours(self, name: str, environment: dict[str, str], stdin: bytes) -> tuple[int, bytes]:
        """As the executable's fallback does it, without a start of Python."""
        for key in [key for key in os.environ if key.startswith("CNI_")]:
            del os.environ[key]
        os.environ.update(environment)
        sys.argv[0] = name
        if environment["CNI_COMMAND"] == "VERSION":
            from podway.cni.plugin import versions

            return 0, json.dumps(versions(stdin)).encode()
        base = self._directory / "podway"
        options = {"node": "a", "state-dir": str(base / "state"), "store": f"sqlite:{base}/store.db"}
        base.mkdir(exist_ok=True)
        answer = inprocess.carry_out(stdin, options, inprocess._opener)
        return answer.exit_code, answer.stdout


def _said(document: Any) -> dict[str, Any]:
    """Of an error: its number, and which words it has; those are everybody's own, and explain it."""
    found = document or {}
    text = f"{found.get('msg', '')} {found.get('details', '')}"
    words = {key: bool(found.get(key)) for key in ("msg", "details")}
    return {"code": found.get("code"), **words, "text": text}


def _bare(result: dict[str, Any]) -> list[str]:
    """The addresses by which others reach the pod."""
    ips = [one["address"] for one in result.get("ips", ())]
    ips += [result[key]["ip"] for key in ("ip4", "ip6") if key in result]
    found = [one.partition("/")[0] for one in ips]
    return [one for one in found if not ipaddress.ip_address(one).is_loopback]
