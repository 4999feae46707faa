"""``podway get|describe|delete|explain`` as a user types them, and wrong usage of every kind."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from podway_command import DOCUMENTS, Podway

from podway.store import Record

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("kind", ["network", "networks", "Network", "NETWORKS"])
def test_kinds_are_forgiving(applied: Podway, kind: str) -> None:
    assert applied.good("get", kind).splitlines()[1].split()[:3] == ["pods", "bridge", "host-gw"]


def test_get_tables(applied: Podway) -> None:
    applied.claim()
    text = applied.good("get", "networks,nodes,blocks")
    assert "10.244.0.0/16, fd00:10:244::/48" in text and "192.0.2.1/24" in text
    assert text.splitlines()[-1].split() == ["10.244.3.0/24", "pods", "a", "bridge"]
    assert "flannel-host-gw  pw-pods" in applied.good("get", "network", "pods", "-o", "wide")


def test_get_json_is_a_list_unless_one_is_named(applied: Podway) -> None:
    assert json.loads(applied.good("get", "network", "pods", "-o", "json"))["metadata"]["name"] == "pods"
    assert [one["kind"] for one in json.loads(applied.good("get", "networks", "-o", "json"))] == ["Network"]
    assert json.loads(applied.good("get", "blocks", "-o", "json")) == []


def test_get_shows_what_a_later_version_stored(applied: Podway) -> None:
    applied.put(
        Record(kind="Network", name="later", spec=b'{"pools":[],"transport":"quic"}'),
        Record(kind="Network", name="odd", spec=b"\xff"),
    )
    text = applied.good("get", "networks")
    assert "another version" in text and "host-gw" in text
    shown = json.loads(applied.good("get", "network", "later", "-o", "json"))
    assert shown["spec"]["transport"] == "quic"
    applied.good("describe", "network", "later")
    applied.good("delete", "network", "odd")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["get", "netwrok"], "did you mean network?"),
        (["get", "pods"], "no kind"),
        (["get", "nodes,peers"], "podway get peers"),
        (["get", ""], "no kind"),
        (["get", "network", "x"], "there is no Network x"),
        (["get", "network", "../x"], "no name"),
        (["describe", "node", "x"], "there is no Node x"),
        (["describe", "node,network", "a"], "one kind"),
        (["delete", "node", "x"], "there is no Node x"),
        (["explain", "networks.spec.pool"], "did you mean pools?"),
        (["explain", "netwrok"], "did you mean network?"),
        (["explain", "network.spec.mtu.x"], "no field"),
    ],
)
def test_what_is_not_there(applied: Podway, arguments: list[str], words: str) -> None:
    assert words in applied.bad(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["get"],
        ["apply"],
        ["delete"],
        ["delete", "node"],
        ["aply"],
        ["get", "nodes", "-o", "xml"],
        ["--nonsense"],
    ],
)
def test_wrong_usage(podway: Podway, arguments: list[str]) -> None:
    assert "Usage:" in podway.bad(*arguments, code=2)


def test_stores_that_can_not_be_used(podway: Podway) -> None:
    assert "no directory" in podway.bad("get", "nodes", "--store", "sqlite:/missing/store.db")
    assert "sqlite:" in podway.bad("get", "nodes", "--store", "mysql://localhost")
    (podway.directory / "store.db").write_bytes(b"garbage" * 500)
    told = podway.bad("get", "nodes")
    assert "  where: " in told and "  fix:   move the file aside" in told


def test_debug_shows_the_traceback(podway: Podway) -> None:
    done = subprocess.run(
        podway.command("--debug", "get", "nodes", "--store", "sqlite:/missing/store.db"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" in done.stderr


BORROW = """apiVersion: podway.dev/v1
kind: Borrow
metadata: {name: a}
spec: {network: pods, node: a}
"""


def test_describe_tells_what_belongs_to_it(applied: Podway) -> None:
    applied.claim()
    text = applied.good("describe", "network", "pods")
    assert "means: attach bridge, transport host-gw" in text
    assert "10.244.3.0/24  network pods  node a" in text
    assert "10.244.3.0/24" in applied.good("describe", "node", "a")
    assert "network: pods" in applied.good("describe", "block", "10.244.3.0/24")


def test_delete(applied: Podway) -> None:
    assert applied.good("delete", "network", "pods") == "network pods deleted\n"
    assert applied.good("delete", "nodes", "a") == "node a deleted\n"
    assert applied.stored() == []


def test_delete_what_a_file_declares_or_nothing(applied: Podway) -> None:
    more = DOCUMENTS + "---\n" + DOCUMENTS.partition("---\n")[2].replace("name: a", "name: b")
    assert "there is no Node b" in applied.bad("delete", "-f", "-", text=more)
    assert len(applied.stored()) == 2
    applied.good("delete", "-f", "-", text=DOCUMENTS)
    assert applied.stored() == []


@pytest.mark.parametrize("target", [("network", "pods"), ("node", "a"), ("block", "10.244.3.0/24")])
def test_what_is_in_use_is_deleted_only_by_force(applied: Podway, target: tuple[str, str]) -> None:
    applied.claim()
    assert "--force" in applied.bad("delete", *target)
    assert len(applied.stored()) == 3
    applied.good("delete", *target, "--force")
    assert not any(record.kind == "Block" for record in applied.stored())


@pytest.mark.parametrize("target", [("network", "pods"), ("node", "a"), ("borrow", "10.244.9.7")])
def test_what_was_borrowed_is_seen_and_goes_by_force_alone(applied: Podway, target: tuple[str, str]) -> None:
    applied.put(Record(kind="Borrow", name="10.244.9.7", spec=b'{"network": "pods", "node": "a"}'))
    assert applied.good("get", "borrows").split() == ["ADDRESS", "NETWORK", "NODE", "10.244.9.7", "pods", "a"]
    assert "--force" in applied.bad("delete", *target)
    assert "10.244.9.7" in applied.good("get", "borrows")
    assert "borrow 10.244.9.7 deleted\n" in applied.good("delete", *target, "--force")
    assert applied.good("get", "borrows") == "no borrows\n"
    assert "addresses are borrowed by nodes" in applied.bad("apply", "-f", "-", text=BORROW)


@contextlib.contextmanager
def _watching(podway: Podway, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        podway.command("get", *arguments, "--watch"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=podway.environment | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_get_watch_tells_each_change_and_ends_by_ctrl_c(applied: Podway) -> None:
    with _watching(applied, "nodes") as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().startswith("NAME")
        assert process.stdout.readline().startswith("a ")
        applied.good("apply", "-f", "-", text=DOCUMENTS.replace("192.0.2.1", "192.0.2.9"))
        assert process.stdout.readline().split() == ["a", "192.0.2.9/24"]
        applied.good("delete", "node", "a")
        assert process.stdout.readline().split()[-1] == "(deleted)"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read().strip() == ""


def test_get_watch_of_one_as_json(applied: Podway) -> None:
    with _watching(applied, "node", "a", "-o", "json") as process:
        assert process.stdout
        while process.stdout.readline() != "}\n":
            pass
        applied.put(Record(kind="Node", name="b"))
        applied.good("delete", "node", "a")
        gone = json.loads(process.stdout.readline())
        assert gone["metadata"]["name"] == "a" and gone["deleted"] is True


def test_a_reader_that_leaves_is_no_error(applied: Podway) -> None:
    process = subprocess.Popen(
        applied.command("get", "nodes", "-o", "yaml"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=applied.environment,
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_a_peer_with_a_nodes_name_has_not_its_blocks(applied: Podway) -> None:
    """Names are of their kind; and its password is not shown unasked."""
    peer = "{apiVersion: podway.dev/v1, kind: BGPPeer, metadata: {name: a}, spec: {asNumber: 65000, "
    applied.good("apply", "-f", "-", text=peer + "peerAddress: 192.0.2.9, password: geheim}}")
    applied.claim()
    shown = applied.good("describe", "bgppeer", "a")
    assert "blocks" not in shown and "geheim" not in shown and "password: …" in shown
    assert "password: geheim" in applied.good("get", "bgppeer", "a", "-o", "yaml")
    assert applied.good("delete", "bgppeer", "a") == "bgppeer a deleted\n"
    assert "10.244.3.0/24" in applied.good("get", "blocks")
    assert applied.good("get", "bgptopologies") == "no bgptopologies\n"


# the rest ------------------------------------------------------------------------------------------


def test_explain_is_complete(podway: Podway) -> None:
    """Every field of every kind has its words."""
    for path in ("network", "network.spec.pools", "network.bridge", "node", "block"):
        lines = podway.good("explain", path).splitlines()
        fields = [number for number, line in enumerate(lines) if number > 1 and line[2] != " "]
        assert fields
        assert all(lines[number + 1].strip() for number in fields)
    assert "\nBGPPeer " in podway.good("explain") and "`" not in podway.good("explain")
    assert "calico-bgp" in podway.good("explain", "network.spec.preset")
    text = podway.good("explain", "network.spec.transport")
    assert "none | host-gw" in text and 'default "none"' in text
    assert "required" in podway.good("explain", "network.spec.pools.cidr")


def test_help_imports_nothing_that_is_slow(podway: Podway) -> None:
    code = (
        "import sys; sys.argv = ['podway', '--help']\n"
        "from podway.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code in (0, None)\n"
        "print('LOADED', {'rich', 'msgspec', 'yaml', 'asyncio', 'sqlite3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED set()" in done.stdout


def test_a_command_that_asks_an_agent_does_not_load_one() -> None:
    """Nor asyncio and the store's engine, which would be half of its time."""
    code = (
        "import sys, podway.observe.client, podway.observe.peers\n"
        "print('LOADED', {'asyncio', 'sqlite3', 'podway.node.engine'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED set()" in done.stdout


def test_every_command_of_this_room_has_help(podway: Podway) -> None:
    for command in ("apply", "get", "describe", "delete", "diff", "explain", "version"):
        assert f"podway {command}" in podway.good(command, "--help")
    for group in ("bgp", "cni", "ipam", "lab"):
        assert "..." not in podway.good(group, "--help").partition("Commands:")[2], "a sentence is cut off"
    assert podway.good("version").startswith("podway ")


def test_a_watch_of_a_store_that_is_removed_ends_with_an_error(applied: Podway) -> None:
    with _watching(applied, "nodes") as process:
        assert process.stdout and process.stderr
        applied.put(Record(kind="Node", name="b"))
        while not process.stdout.readline().startswith("b "):
            pass  # by the list or by the watch; the next one only by the watch
        applied.put(Record(kind="Node", name="c"))
        while not process.stdout.readline().startswith("c "):
            pass
        for file in applied.directory.glob("store.db*"):
            file.unlink()
        assert process.wait(20) == 1
        assert "removed" in process.stderr.read()
