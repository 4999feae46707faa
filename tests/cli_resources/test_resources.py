"""``podway apply|get|describe|delete|diff|explain`` as a user types them: what they do, what they refuse,
and that nothing is half applied, whatever is wrong with the input and whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from podway.model.resources import BlockSpec
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel

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
        with contextlib.closing(open_store(self.url)) as store:
            return [record for kind in ("Network", "Node", "Block") for record in store.list(kind)[0]]

    def put(self, *records: Record) -> None:
        with contextlib.closing(open_store(self.url)) as store:
            for record in records:
                store.create(record)

    def claim(self, cidr: str = "10.244.3.0/24") -> None:
        spec = BlockSpec(network="pods", node="a", attach="bridge")
        self.put(Record(kind="Block", name=cidr, spec=msgspec.json.encode(spec)))


@pytest.fixture
def podway(tmp_path: Path, in_namespace: int) -> Podway:
    """In an empty network namespace: the machine's own routes have no say."""
    return Podway(tmp_path)


@pytest.fixture
def applied(podway: Podway) -> Podway:
    podway.good("apply", "-f", "-", text=DOCUMENTS)
    return podway


# apply and diff ------------------------------------------------------------------------------------


def test_apply_creates_changes_and_leaves(podway: Podway) -> None:
    file = podway.directory / "a.yaml"
    file.write_text(DOCUMENTS)
    assert podway.good("apply", "-f", str(file)) == "network pods created\nnode a created\n"
    before = podway.stored()
    assert podway.good("apply", "-f", str(file)) == "network pods unchanged\nnode a unchanged\n"
    assert podway.stored() == before
    file.write_text(DOCUMENTS.replace("192.0.2.1", "192.0.2.9"))
    assert podway.good("apply", "-f", str(file)) == "network pods unchanged\nnode a changed\n"


def test_json_is_yaml(podway: Podway) -> None:
    text = json.dumps(next(yaml.safe_load_all(DOCUMENTS)))
    assert podway.good("apply", "-f", "-", text=text) == "network pods created\n"


def test_what_get_prints_can_be_applied(applied: Podway) -> None:
    text = applied.good("get", "networks,nodes", "-o", "yaml")
    assert applied.good("apply", "-f", "-", text=text) == "network pods unchanged\nnode a unchanged\n"


def test_a_spec_is_applied_beside_a_status(applied: Podway) -> None:
    with contextlib.closing(open_store(applied.url)) as store:
        node = store.get("Node", "a")
        store.update_status(msgspec.structs.replace(node, status=b'{"addresses":["192.0.2.7/24"]}'))
    applied.good("apply", "-f", "-", text=DOCUMENTS.replace("192.0.2.1", "192.0.2.9"))
    (node,) = [record for record in applied.stored() if record.kind == "Node"]
    assert b"192.0.2.9" in node.spec and b"192.0.2.7" in node.status


def test_diff_tells_what_apply_would_do_and_does_nothing(podway: Podway) -> None:
    done = podway.run("diff", "-f", "-", text=DOCUMENTS)
    assert done.returncode == 1 and "+  preset: flannel-host-gw" in done.stdout
    assert podway.stored() == []
    podway.good("apply", "-f", "-", text=DOCUMENTS)
    assert podway.good("diff", "-f", "-", text=DOCUMENTS) == ""
    done = podway.run("diff", "-f", "-", text=DOCUMENTS.replace("192.0.2.1", "192.0.2.9"))
    assert done.returncode == 1
    assert "-  - 192.0.2.1/24" in done.stdout and "+  - 192.0.2.9/24" in done.stdout
    assert "preset" not in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("cidr: 10", "cdir: 10", 7, "did you mean cidr?"),
        ("10.244.0.0/16", "10.244.0.1/16", 7, "the prefix is 10.244.0.0/16"),
        ("10.244.0.0/16", "10.244.0.0/25", 7, "does not fit"),
        ("fd00:10:244::/48", "10.244.9.0/24", 8, "overlaps pools[0]"),
        ("preset: flannel-host-gw", "preset: flannel", 5, "flannel-host-gw"),
        ("preset: flannel-host-gw", "preset: docker\n  transport: host-gw", 6, "contradicts"),
        ("preset: flannel-host-gw", "attach: routed", 5, "not available"),
        ("preset: flannel-host-gw", "mtu: 1000", 5, "1280"),
        ("kind: Node", "kind: Nod", 11, "did you mean Node?"),
        ("podway.dev/v1\nkind: Node", "v1\nkind: Node", 10, "podway.dev/v1"),
        ("{name: a}", "{name: A}", 12, "lower case"),
        ("{name: a}", "{}", 12, "missing"),
        ("192.0.2.1/24", "192.0.2.1", 13, "prefix length"),
        ("192.0.2.1/24", "10.244.0.1/24", 13, "in pool 10.244.0.0/16"),
        ("addresses: [", "addresses: 1, x: [", 13, "spec.addresses"),
        ("kind: Node", "kind: Node\nkind: Node", 12, "twice"),
        ("kind: Node", "kind: [", 13, "YAML"),
        ("kind: Node", "\tkind: Node", 11, "YAML"),
        ("{name: a}", "{name: a}\n? [x]\n: y", 13, "YAML"),
    ],
)
def test_one_wrong_document_and_nothing_is_applied(
    podway: Podway, old: str, new: str, line: int, words: str
) -> None:
    assert old in DOCUMENTS
    file = podway.directory / "a.yaml"
    file.write_text(DOCUMENTS.replace(old, new))
    told = podway.bad("apply", "-f", str(file))
    assert f"{file}:{line}" in told and words in told and "nothing was changed" in told
    assert not (podway.directory / "store.db").exists() or podway.stored() == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n---\n",
        "# nothing\n",
        "text",
        "[]",
        "42",
        "a: b",
        b"\xff\xfe\xff",
        b"\x00",
        "- " * 3000 + "x",
    ],
    ids=range(10),
)
def test_what_is_no_document(podway: Podway, text: str | bytes) -> None:
    assert podway.bad("apply", "-f", "-", text=text).startswith("error: ")


def test_nesting_without_end(podway: Podway) -> None:
    assert "error: " in podway.bad("apply", "-f", "-", text="[" * 20_000)
    assert "error: " in podway.bad("apply", "-f", "-", text="&a [*a]")
    assert "longer than" in podway.bad("apply", "-f", "-", text="#" * (5 << 20))


def test_a_document_twice_in_a_file(podway: Podway) -> None:
    told = podway.bad("apply", "-f", "-", text=DOCUMENTS + "---\n" + DOCUMENTS.partition("---")[0])
    assert "stdin:17: metadata.name: Network pods stands here twice" in told


def test_a_file_that_can_not_be_read(podway: Podway) -> None:
    assert "No such file" in podway.bad("apply", "-f", str(podway.directory / "missing"))
    assert "Is a directory" in podway.bad("apply", "-f", str(podway.directory))


def test_pools_over_stored_networks_and_nodes(applied: Podway) -> None:
    other = DOCUMENTS.partition("---")[0].replace("name: pods", "name: other")
    told = applied.bad("apply", "-f", "-", text=other)
    assert "stdin:7: spec.pools[0].cidr" in told and "pool 10.244.0.0/16 of network pods" in told
    told = applied.bad("apply", "-f", "-", text=other.replace("10.244.0.0/16", "192.0.2.0/24"))
    assert "address of node a" in told
    twin = DOCUMENTS.partition("---\n")[2].replace("name: a", "name: b")
    assert "an address of node a too" in applied.bad("apply", "-f", "-", text=twin)


def test_a_pool_over_a_route_of_this_host(podway: Podway) -> None:
    for line in ("link add up0 type veth peer name up1", "link set up0 up", "route add 10.0.0.0/8 dev up0"):
        subprocess.run(["ip", *line.split()], check=True)
    assert "this host's route 10.0.0.0/8" in podway.bad("apply", "-f", "-", text=DOCUMENTS)
    subprocess.run(["ip", "route", "change", "10.0.0.0/8", "dev", "up0", "proto", "112"], check=True)
    podway.good("apply", "-f", "-", text=DOCUMENTS)


def test_the_route_of_an_adopted_bridge_is_no_objection(podway: Podway) -> None:
    for line in ("link add cni0 type bridge", "link set cni0 up", "address add 10.244.0.1/24 dev cni0"):
        subprocess.run(["ip", *line.split()], check=True)
    assert "host's route" in podway.bad("apply", "-f", "-", text=DOCUMENTS)
    adopting = DOCUMENTS.replace("  pools:", "  bridge: {name: cni0, adopt: true}\n  pools:")
    podway.good("apply", "-f", "-", text=adopting)


def test_a_pool_with_claimed_blocks_stays(applied: Podway) -> None:
    applied.claim()
    told = applied.bad("apply", "-f", "-", text=DOCUMENTS.replace("10.244.0.0/16", "10.245.0.0/16"))
    assert "stdin:6: spec.pools" in told and "10.244.3.0/24" in told and "node a" in told
    applied.good("apply", "-f", "-", text=DOCUMENTS.replace("10.244.0.0/16", "10.244.0.0/20"))


def test_a_failure_midway_names_what_was_applied(podway: Podway) -> None:
    """The second write finds the store locked for good."""
    podway.put()
    code = (
        "import sys; from podway.store import sqlite, StoreUnavailable; from podway.cli.main import main\n"
        "create = sqlite.SqliteStore.create\n"
        "def failing(self, record):\n"
        "    if record.kind == 'Node': raise StoreUnavailable('disk is full', 'store.db', 'free some')\n"
        "    return create(self, record)\n"
        "sqlite.SqliteStore.create = failing\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "apply", "-f", "-"],
        input=DOCUMENTS,
        capture_output=True,
        text=True,
        env=podway.environment,
    )
    assert done.returncode == 1 and done.stdout == "network pods created\n"
    assert "node a: disk is full" in done.stderr and "done before it: network pods created" in done.stderr
    assert podway.good("apply", "-f", "-", text=DOCUMENTS) == "network pods unchanged\nnode a created\n"


def _nodes(count: int, last: int = 1) -> str:
    return "---\n".join(
        f"apiVersion: podway.dev/v1\nkind: Node\nmetadata: {{name: n{number}}}\n"
        f"spec: {{addresses: [10.9.{number}.{last}/24]}}\n"
        for number in range(count)
    )


def test_a_killed_apply_leaves_whole_objects_and_can_be_repeated(podway: Podway) -> None:
    podway.put(Record(kind="Network", name="marker", spec=b'{"pools":[]}'))
    for attempt in range(3):
        file = podway.directory / "many.yaml"
        file.write_text(_nodes(200, attempt + 1))
        running = subprocess.Popen(
            podway.command("apply", "-f", str(file)), env=podway.environment, stdout=subprocess.PIPE
        )
        assert running.stdout
        for _ in range(5 + attempt * 20):
            assert running.stdout.readline()
        running.send_signal(signal.SIGKILL)
        running.wait()
        running.stdout.close()
        for record in podway.stored():
            if record.kind == "Node":
                (address,) = msgspec.json.decode(record.spec)["addresses"]
                assert address.startswith(f"10.9.{record.name[1:]}.")
        podway.good("apply", "-f", str(file))
        assert len(podway.stored()) == 201


def test_several_at_once(podway: Podway) -> None:
    running = [
        subprocess.Popen(
            podway.command("apply", "-f", "-"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=podway.environment,
        )
        for _ in range(3)
    ]
    for process in running:
        process.communicate(_nodes(30).encode())
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(podway.stored()) == 30


# get, describe, delete -----------------------------------------------------------------------------


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
    assert "sqlite:" in podway.bad("get", "nodes", "--store", "etcd://localhost")
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


# the rest ------------------------------------------------------------------------------------------


def test_explain_is_complete(podway: Podway) -> None:
    """Every field of every kind has its words."""
    for path in ("network", "network.spec.pools", "network.bridge", "node", "block"):
        lines = podway.good("explain", path).splitlines()
        fields = [number for number, line in enumerate(lines) if number > 1 and line[2] != " "]
        assert fields
        assert all(lines[number + 1].strip() for number in fields)
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


def test_every_command_of_this_room_has_help(podway: Podway) -> None:
    for command in ("apply", "get", "describe", "delete", "diff", "explain", "version"):
        assert f"podway {command}" in podway.good(command, "--help")
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
