"""The agent as a process: ready, repairs from events and names who did it, restarts without a trace."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from podway.kernel.monitor import Monitor
from podway.kernel.rtnetlink import Rtnetlink
from podway.store import Record, open_store
from readiness import awaited

pytestmark = pytest.mark.kernel

NETWORK = {"transport": "host-gw", "pools": [{"cidr": "10.244.0.0/16"}]}
PEER = {"addresses": ["192.0.2.2/24"]}
BLOCK = {"network": "pods", "node": "b", "attach": "bridge"}
PATIENCE = 30.0  # seconds for what takes a fraction of one on a quiet machine
LOCALNET = "net.ipv4.conf.pw-pods.route_localnet"


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Agent:
    """One agent in this namespace, with a store that has a network and a peer with a block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = f"sqlite:{directory}/store.db"
        self.options = ["--node", "a", "--store", self.url, "--state-dir", str(directory / "state")]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds until READY=1."""
        began = time.monotonic()
        with awaited(self.directory) as told:
            command = [sys.executable, "-m", "podway", "agent", *self.options]
            self.process = subprocess.Popen(
                [*command, "--socket", str(self.directory / "cni.sock")],
                env=os.environ | told,
                stderr=(self.directory / "log").open("ab"),
            )
        return time.monotonic() - began

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.process = None
        return code

    def podway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command about this node."""
        environment = os.environ | {
            "PODWAY_STORE": self.url,
            "PODWAY_NODE": "a",
            "PODWAY_STATE_DIR": str(self.directory / "state"),
            "PODWAY_SOCKET": str(self.directory / "cni.sock"),
        }
        command = [sys.executable, "-m", "podway", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def until(self, *arguments: str, holds: str) -> str:
        """Run until the output holds a text."""
        deadline = time.monotonic() + PATIENCE
        while True:
            shown = self.podway(*arguments).stdout
            if holds in shown:
                return shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.05)


@pytest.fixture
def agent(tmp_path: Path, in_namespace: int) -> Iterator[Agent]:
    made = Agent(tmp_path)
    store = open_store(made.url, create=True)
    store.create(Record(kind="Network", name="pods", spec=json.dumps(NETWORK).encode()))
    store.create(Record(kind="Node", name="b", spec=json.dumps(PEER).encode()))
    store.create(Record(kind="Block", name="10.244.7.0/24", spec=json.dumps(BLOCK).encode()))
    store.create(Record(kind="Block", name="10.244.3.0/24", spec=json.dumps(BLOCK | {"node": "a"}).encode()))
    store.close()
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    _run("ip", "link", "set", "up1", "up")
    _run("ip", "address", "add", "192.0.2.1/24", "dev", "up0")
    _run("ip", "link", "set", "up0", "up")
    made.start()
    try:
        yield made
    finally:
        if made.process is not None:
            made.stop(signal.SIGKILL)


def _eventually(check: str, *command: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while check not in _run(*command):
        assert time.monotonic() < deadline, (check, command)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("damage", "check", "look"),
    [
        ("ip route del 10.244.7.0/24", "10.244.7.0/24 via 192.0.2.2", "ip route"),
        ("ip address del 10.244.3.1/24 dev pw-pods", "10.244.3.1/24", "ip address show dev pw-pods"),
        ("ip link set pw-pods down", "pw-pods UP", "ip -br link"),
        ("ip link del pw-pods", "10.244.3.1/24", "ip address"),
        ("ip link set up0 down; ip link set up0 up", "10.244.7.0/24 via 192.0.2.2", "ip route"),
        ("nft flush chain inet podway postrouting", "masquerade", "nft list chain inet podway postrouting"),
        ("nft delete table inet podway", "masquerade", "nft list ruleset"),
        ("nft delete element inet podway cluster4 { 10.244.0.0/16 }", "10.244.0.0/16", "nft list ruleset"),
        ("sysctl -qw net.ipv4.ip_forward=0", "= 1", "sysctl net.ipv4.ip_forward"),
        # tells nobody: swept at the heartbeat
        (
            "sysctl -qw net.ipv4.conf.pw-pods.route_localnet=0",
            "= 1",
            "sysctl net.ipv4.conf.pw-pods.route_localnet",
        ),
    ],
)
def test_damage_is_repaired_and_journalled(agent: Agent, damage: str, check: str, look: str) -> None:
    words = look.split()
    _eventually(check.split()[-1], *words)
    for command in damage.split("; "):
        _run(*command.split(maxsplit=6) if command.startswith("nft delete element") else command.split())
    deadline = time.monotonic() + 2 * PATIENCE
    while not _stands(words, check):
        assert time.monotonic() < deadline, damage
        time.sleep(0.01)
    agent.until("plan", holds="nothing to change")
    assert "repaired" in agent.podway("journal").stdout


def _stands(look: list[str], check: str) -> bool:
    done = subprocess.run(look, capture_output=True, text=True, check=False)
    return all(word in done.stdout for word in check.split())


def test_an_endless_fight_is_given_up_and_named(agent: Agent) -> None:
    """Somebody takes a route away whenever it stands and never stops: repairs wait, status says for whom."""
    over = threading.Event()

    def fight() -> None:
        while not over.wait(0.02):
            subprocess.run(["ip", "route", "del", "10.244.7.0/24"], capture_output=True, check=False)

    _eventually("10.244.7.0/24", "ip", "route")
    opponent = threading.Thread(target=fight)  # in the namespace of whoever starts it
    opponent.start()
    try:
        shown = agent.until("status", holds="keeps being changed")
    finally:
        over.set()
        opponent.join()
    assert "keeps being changed by " in shown and "route protocol 112" in shown
    # the next repair takes as long as it was made to wait, and then it stands
    _eventually("10.244.7.0/24", "ip", "route", patience=90.0)


def test_events_from_the_first_moment_on_are_taken_in(agent: Agent) -> None:
    """The kernel changes all the time while agents start: none of their passes comes too early for them."""
    agent.stop()
    changes = [
        "address add 192.0.2.77/24 dev up0",
        "route del 10.244.7.0/24",
        "address del 192.0.2.77/24 dev up0",
    ]
    batch = agent.directory / "changes"
    batch.write_text("\n".join(changes * 100))
    forever = f"while :; do ip -force -batch {batch} 2> {os.devnull}; done"
    shaker = subprocess.Popen(["sh", "-c", forever])
    try:
        for _ in range(4):
            agent.start()
            agent.stop()
    finally:
        shaker.kill()
        shaker.wait()
    assert "Traceback" not in (agent.directory / "log").read_text()


def test_a_restart_changes_nothing_in_the_kernel(agent: Agent) -> None:
    monitor = Monitor()
    while select.select([monitor.fileno()], [], [], 2.0)[0]:
        monitor.read()  # duplicate address detection and a link's state are told late
    rtnetlink = Rtnetlink()
    try:
        before = {kind: rtnetlink.dump(kind) for kind in ("link", "address", "route", "rule")}
        assert agent.stop() == 0
        agent.start()
        agent.until("status", holds="wanted kernel objects stand")
        assert monitor.read() == []
        assert {kind: rtnetlink.dump(kind) for kind in before} == before
    finally:
        rtnetlink.close()
        monitor.close()


def test_a_second_agent_is_refused(agent: Agent) -> None:
    done = agent.podway("agent", "--socket", str(agent.directory / "other.sock"))
    assert done.returncode == 1 and "another writer serves this node" in done.stderr


def test_the_store_is_followed_without_polling(agent: Agent) -> None:
    store = open_store(agent.url)
    try:
        spec = json.dumps(BLOCK).encode()
        store.create(Record(kind="Block", name="10.244.9.0/24", spec=spec))
        _eventually("10.244.9.0/24 via 192.0.2.2", "ip", "route")
        store.delete("Block", "10.244.9.0/24")
        deadline = time.monotonic() + PATIENCE
        while "10.244.9.0/24" in _run("ip", "route"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        store.close()


def test_a_peer_off_the_segment_is_named_with_what_would_work(agent: Agent) -> None:
    store = open_store(agent.url)
    try:
        record = store.get("Node", "b")
        far = Record(kind="Node", name="b", spec=b'{"addresses": ["203.0.113.2/24"]}', version=record.version)
        store.update_spec(far)
    finally:
        store.close()
    shown = agent.until("status", holds="not on-link")
    assert "peer b" in shown and "vxlan" in shown
    assert agent.podway("status").returncode == 1
    deadline = time.monotonic() + PATIENCE
    while "10.244.7.0/24" in _run("ip", "route"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pages_on_loopback(agent: Agent) -> None:
    with urllib.request.urlopen("http://127.0.0.1:9177/healthz", timeout=PATIENCE) as page:
        assert page.read() == b"ok\n"
    with urllib.request.urlopen("http://127.0.0.1:9177/metrics", timeout=PATIENCE) as page:
        assert b"podway_store_synced 1.0" in page.read()


def test_a_lost_store_removes_nothing(agent: Agent) -> None:
    agent.stop()
    (agent.directory / "store.db").rename(agent.directory / "away.db")
    agent.options[3] = f"sqlite:{agent.directory}/gone/store.db"
    agent.start()
    shown = agent.until("status", holds="the last known state is kept")
    assert "there is no directory" in shown
    assert "10.244.7.0/24 via 192.0.2.2" in _run("ip", "route")
    _run("ip", "route", "del", "10.244.7.0/24")
    _eventually("10.244.7.0/24 via 192.0.2.2", "ip", "route")


def test_uninstall_removes_all_and_only_its_own(agent: Agent) -> None:
    _run("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.9")
    _run("nft", "add", "table", "inet", "mine")
    refused = agent.podway("uninstall")
    assert refused.returncode == 1 and "agent" in refused.stderr
    agent.stop()
    shown = agent.podway("uninstall", "--dry-run").stdout
    assert "10.244.7.0/24" in shown and "10.244.7.0/24" in _run("ip", "route")
    done = agent.podway("uninstall")
    assert done.returncode == 0, done.stderr
    assert "pw-pods" not in _run("ip", "link")
    assert _run("ip", "route").split("\n")[0].startswith("192.0.2.0/24")
    assert "198.51.100.0/24" in _run("ip", "route")
    assert _run("nft", "list", "tables").strip() == "table inet mine"
    assert _run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
