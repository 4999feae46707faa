"""``podway apply|diff`` as a user types them: what they do, what they refuse, and that nothing is half
applied, whatever is wrong with the input and whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys

import msgspec
import pytest
import yaml
from podway_command import DOCUMENTS, Podway

from podway.model.resources import BlockSpec
from podway.store import Record, open_store

pytestmark = pytest.mark.kernel


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
    with contextlib.closing(open_store(applied.url, create=True)) as store:
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
        ("preset: flannel-host-gw", "preset: flannel-hostgw", 5, "flannel-host-gw"),
        ("preset: flannel-host-gw", "preset: docker\n  transport: host-gw", 6, "contradicts"),
        ("preset: flannel-host-gw", "attach: routed\n  bridge: {}", 6, "no bridge"),
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


def test_a_block_size_stays_while_blocks_are_claimed(applied: Podway) -> None:
    applied.claim()
    resized = DOCUMENTS.replace("cidr: 10.244.0.0/16", "cidr: 10.244.0.0/16\n    blockSize: 25")
    shown = applied.bad("apply", "-f", "-", text=resized)
    assert "spec.pools[0].blockSize" in shown and "node a" in shown
    assert "say blockSize: 24, or add another pool" in shown


@pytest.mark.parametrize(
    "arguments",
    [["get", "nodes"], ["describe", "node", "a"], ["delete", "node", "a"]],
)
def test_reading_makes_no_store(podway: Podway, arguments: list[str]) -> None:
    assert "there is no store yet" in podway.bad(*arguments)
    assert not list(podway.directory.glob("store.db*"))


def test_what_loses_packets_is_told_and_asked_for(applied: Podway) -> None:
    """``diff`` says what happens; ``apply`` refuses what loses packets, until it is allowed."""
    applied.claim()
    spec = BlockSpec(network="pods", node="b", attach="bridge")
    applied.put(Record(kind="Block", name="10.244.4.0/24", spec=msgspec.json.encode(spec)))
    lossless = DOCUMENTS.replace("flannel-host-gw", "flannel-vxlan")
    shown = applied.run("diff", "-f", "-", text=lossless).stdout
    assert "what happens to network pods:" in shown and "risk: datagrams of more than" in shown
    lossy = DOCUMENTS.replace("flannel-host-gw", "docker")
    shown = applied.run("diff", "-f", "-", text=lossy).stdout
    assert "loss: pods of different nodes no longer reach each other: a, b" in shown
    before = applied.stored()
    refused = applied.bad("apply", "-f", "-", text=lossy)
    assert "without loss" in refused and "--allow-disruption" in refused
    assert applied.stored() == before
    applied.good("apply", "--allow-disruption", "-f", "-", text=lossy)
