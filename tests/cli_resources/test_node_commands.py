"""Commands about a node, as a newcomer mistypes them or runs them before there is anything."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from podway_command import Podway

from podway.kernel.facade import Kernel
from podway.node.database import Database
from podway.node.lock import WriterLock
from podway.node.uninstall import Removal
from podway.node.uninstall import run as remove_all


@pytest.fixture
def node(podway: Podway) -> Podway:
    """A node with an empty database of its own and no store."""
    state = podway.directory / "state"
    state.mkdir()
    Database.open(str(state)).close()
    podway.environment |= {"PODWAY_STATE_DIR": str(state), "PODWAY_NODE": "a"}
    return podway


@pytest.mark.parametrize("name", ["BAD NAME", "../../etc", "a_b", "-a", "x" * 64, ""])
@pytest.mark.parametrize(
    "command", [["agent"], ["status"], ["uninstall"], ["cni", "install", "--network", "n"]]
)
def test_a_nodes_name_is_one(podway: Podway, command: list[str], name: str) -> None:
    """It is that of an object in the store and of directories; nothing is made with another."""
    podway.environment["PODWAY_STATE_DIR"] = str(podway.directory / "state")
    if not name:
        podway.environment["PODWAY_NODE"] = " "
    words = podway.bad(*command, *(["--node", name] if name else []))
    assert "no name for a node" in words and "--node with lower case" in words
    assert not (podway.directory / "state").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--listen", "foo"],
        ["--listen", "127.0.0.1"],
        ["--listen", "127.0.0.1:http"],
        ["--listen", "127.0.0.1:65536"],
        ["--listen", ":9177"],
        ["--probe-port", "0"],
        ["--log-level", "loud"],
    ],
)
def test_what_an_agent_can_not_start_with(podway: Podway, arguments: list[str]) -> None:
    """Refused by the option's name before anything is opened."""
    podway.environment["PODWAY_STATE_DIR"] = str(podway.directory / "state")
    assert arguments[0] in podway.bad("agent", *arguments, code=2)
    assert not (podway.directory / "state").exists()


def test_without_a_store_it_is_said_what_the_answer_rests_on(node: Podway) -> None:
    """An empty answer alone would read as "all is well"."""
    for arguments in (["plan"], ["ipam", "show"], ["ipam", "check"]):
        done = node.run(*arguments)
        assert "there is no store yet" in done.stderr and "warning" in done.stderr
    assert "no network is known" in node.run("ipam", "show").stdout
    assert "store" not in node.run("ipam", "check").stdout


def test_help_and_version_in_the_usual_ways(podway: Podway) -> None:
    """What fingers type."""
    assert podway.good("--version") == podway.good("version")
    assert podway.good("-h") == podway.good("--help")
    for command in (["status"], ["lab", "up"], ["ipam", "check"]):
        assert podway.good(*command, "-h") == podway.good(*command, "--help")


def test_ipam_release_of_what_is_no_address_or_nobodys(node: Podway) -> None:
    """The first is no question, the second has an answer."""
    node.put()
    assert "'10.1' is no address" in node.bad("ipam", "release", "10.1")
    assert "nobody on node a holds fd00::1" in node.bad("ipam", "release", "fd00:0::1")


def test_install_for_a_network_that_is_not_there_yet_says_so(applied: Podway) -> None:
    """It is no error: the order of setting up is the operator's."""
    where = [f"--{kind}-dir={applied.directory / kind}" for kind in ("bin", "conf", "state")]
    done = applied.run("cni", "install", "--network", "other", "--node", "a", *where)
    assert done.returncode == 0 and "no pod can attach to network other yet" in done.stderr
    applied.good("cni", "install", "--network", "pods", "--node", "a", *where)


def test_an_uninstall_names_what_is_not_of_the_kernel(applied: Podway) -> None:
    """The node's object keeps its blocks from others."""
    state = applied.directory / "state"
    state.mkdir()
    done = applied.run("uninstall", "--node", "a", "--state-dir", str(state))
    assert done.returncode == 0 and "podway delete node a" in done.stdout
    done = applied.run("uninstall", "--node", "b", "--state-dir", str(state))
    assert done.returncode == 0 and "podway delete" not in done.stdout


def test_a_dry_run_looks_beside_an_agent_at_work(node: Podway) -> None:
    """Only what removes needs to be the node's one writer, and says what to do."""
    with WriterLock(node.environment["PODWAY_STATE_DIR"]):
        assert "would be removed" in node.good("uninstall", "--dry-run")
        assert "if it is the node's agent, stop that first" in node.bad("uninstall")


def test_before_anything_ran_it_is_said_so(podway: Podway) -> None:
    """Not that a database file is missing."""
    podway.environment |= {"PODWAY_STATE_DIR": str(podway.directory / "state"), "PODWAY_NODE": "a"}
    for command in (["plan"], ["journal"], ["ipam", "show"], ["uninstall", "--dry-run"]):
        words = podway.bad(*command)
        assert "nothing of Podway has run on this node yet" in words and "start podway agent" in words


def test_the_ledger_is_empty_after_an_uninstall(tmp_path: Path, in_namespace: int) -> None:
    """Also of what was put back already, is gone, or was changed by somebody since: the next installation
    must find what is there then, not what was there before the last."""
    with contextlib.closing(Database.open(str(tmp_path))) as database, contextlib.closing(Kernel()) as kernel:
        database.ledger_put("net/ipv4/ip_forward", "0", "1")
        database.ledger_put("net/ipv4/conf/gone0/rp_filter", "1", "2")
        database.ledger_put("net/ipv4/conf/all/send_redirects", "1", "5")
        database.ledger_put("address gone0 10.0.0.1/24", "", "10.0.0.1/24")
        database.ledger_put("link gone0", '{"up":true,"promisc":false}', '{"up":true,"promisc":true}')
        remove_all(kernel, database, Removal(()))
        assert database.ledger() == {}
