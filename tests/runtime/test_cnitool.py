"""Proves that the reference's own client, cnitool, is served at 1.1: ADD, CHECK, DEL, GC and STATUS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cnitool import CniTool, collect, status
from containerd import wait_for
from machine import Machine, machine
from networks import CHAIN, DropIn, Podway
from stock import rows, stock

from podway.cni.dropin import NAMES

pytestmark = [pytest.mark.kernel, pytest.mark.runtime]

PORTS = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]


class Places:
    """A runtime that is nothing but directories."""

    def __init__(self, made: Machine) -> None:
        self.machine = made
        self.bin_dir, self.conf_dir = made.directory / "bin", made.directory / "net.d"
        for path in (self.bin_dir, self.conf_dir):
            path.mkdir()

    def wait_network(self) -> None:
        """Nobody reads ahead."""


@pytest.fixture(params=[Podway, DropIn])
def node(request: pytest.FixtureRequest) -> Iterator[tuple[CniTool, Podway]]:
    """cnitool over a network at 1.1; at the end nothing is left."""
    with machine() as made:
        made.uplink()
        network = request.param(Places(made))
        network.install()
        if request.param is DropIn:
            ours = [one for one in CHAIN["plugins"] if one["type"] in NAMES]
            newest = {**CHAIN, "cniVersion": "1.1.0", "plugins": ours}
            (network.runtime.conf_dir / "10-reference.conflist").write_text(json.dumps(newest))
        yield CniTool(network.runtime), network
        database = Path(network.database)
        wait_for("the attachments' end", lambda: rows(database) == 0)  # links go off the answer's path
        network.stop()
        assert not [line for line in stock(made) if "10.97.0." in line and "cni0" not in line]


def test_every_command(node: tuple[CniTool, Podway]) -> None:
    tool, network = node
    for name in ("one", "two"):
        tool.machine.run("ip", "netns", "add", name)
    tool("status", network.name, "one")
    found = json.loads(tool("add", network.name, "one", portMappings=PORTS))
    assert found["cniVersion"] == "1.1.0"
    assert [len(found["ips"]), len(found["interfaces"])] == [2, 3]
    tool("add", network.name, "two")
    address = found["ips"][0]["address"].partition("/")[0]
    tool.machine.run("ip", "netns", "exec", "two", "ping", "-c1", "-W5", address)
    network.stop()
    tool("check", network.name, "one", portMappings=PORTS)
    network.start()
    tool.machine.run("ip", "-n", "one", "address", "flush", "dev", "eth0")
    with pytest.raises(AssertionError, match=address):
        tool("check", network.name, "one", portMappings=PORTS)
    tool("del", network.name, "one", portMappings=PORTS)
    tool("gc", network.name, "any")  # a DEL for each that libcni knows


def test_what_is_wrong_is_said(node: tuple[CniTool, Podway]) -> None:
    tool, network = node
    with pytest.raises(AssertionError, match="none"):
        tool("add", network.name, "none")
    tool.machine.run("ip", "netns", "add", "one")
    with pytest.raises(AssertionError, match="ipv7"):
        tool("add", network.name, "one", ips=["ipv7"])
    with pytest.raises(AssertionError, match="nowhere"):
        tool("add", "nowhere", "one")


def test_what_is_not_valid_goes(node: tuple[CniTool, Podway]) -> None:
    """By a DEL what libcni knows, by the plugins' own GC what its cache has lost; then all there is."""
    tool, network = node
    results = Path("/var/lib/cni/results")
    for name in ("known", "lost", "kept"):
        tool.machine.run("ip", "netns", "add", name)
        tool("add", network.name, name, portMappings=PORTS if name == "lost" else [])
    for name in ("lost", "kept"):
        tool.machine.run("rm", str(results / f"{network.name}-{tool.container(name)}-eth0"))
    collect(tool.runtime, network.name, [(tool.container("kept"), "eth0")])
    wait_for("the others' links' end", lambda: _interfaces(tool, "known", "lost", "kept") == ["kept"])
    tool.machine.run("ip", "netns", "add", "next")
    tool("add", network.name, "next", portMappings=PORTS)
    collect(tool.runtime, network.name)
    assert not tool.machine.run("ls", str(results))


def _interfaces(tool: CniTool, *names: str) -> list[str]:
    """Those whose eth0 is there."""
    return [name for name in names if "eth0" in tool.machine.run("ip", "-n", name, "-br", "link")]


def test_status_says_why(node: tuple[CniTool, Podway]) -> None:
    """With the code that a runtime reads, from an agent and from the plugins themselves."""
    tool, network = node
    status(tool.runtime, network.name)
    network.stop()
    status(tool.runtime, network.name)
    assert network.database is not None
    directory = network.database.parent
    aside = directory.rename(directory.with_name("aside"))
    directory.write_text("")
    with pytest.raises(AssertionError, match="code 50: "):
        status(tool.runtime, network.name)
    directory.unlink()
    aside.rename(directory)
    network.start()
    status(tool.runtime, network.name)
