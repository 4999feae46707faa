"""Every command: what the engine is asked, what the runtime is answered.

Whatever arrives and whatever the engine raises, the answer is one valid JSON document or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from cni_fakes import CONTAINER, NETNS, RecordingEngine, call, conf, document, error_of, handle
from hypothesis import given, settings
from hypothesis import strategies as st

from podway.cni.protocol import VERSIONS, Answer, Call
from podway.kernel import namespaces
from podway.model.errors import Conflict, Exhausted, InvalidInput, PodwayError, Unavailable
from podway.node.requests import AttachRequest

WANTED = AttachRequest(
    container=CONTAINER, ifname="eth0", network="pods", namespace=NETNS, configuration="pods"
)
BOTH = ("10.244.1.7/24", "fd00:10:244:1::7/64")


@pytest.fixture(scope="module")
def pod() -> Iterator[int]:
    fd = namespaces.create()
    yield fd
    os.close(fd)


def add(pod: int, body: Any, engine: RecordingEngine | None = None, **env: str) -> Answer:
    return handle(call("ADD", body, pod_fd=pod, **env), engine or RecordingEngine())


@pytest.mark.kernel
@pytest.mark.parametrize("version", VERSIONS)
def test_add_answers_in_the_asked_version(pod: int, version: str) -> None:
    engine = RecordingEngine()
    answer = add(pod, conf(cniVersion=version), engine)
    found = document(answer)
    assert answer.exit_code == 0
    assert found["cniVersion"] == version
    assert ("interfaces" in found) == (version >= "0.3.0")
    assert engine.asked == [("add", WANTED)]
    assert engine.namespaces == [namespaces.identity(pod)]


@pytest.mark.kernel
def test_add_echoes_the_namespace_verbatim_and_passes_dns_on(pod: int) -> None:
    path = "/proc/1/../1/ns//net"
    found = document(add(pod, conf(dns={"nameservers": ["10.0.0.2"]}), CNI_NETNS=path))
    assert found["interfaces"][2]["sandbox"] == path
    assert found["dns"] == {"nameservers": ["10.0.0.2"]}


@pytest.mark.kernel
def test_add_in_a_chain(pod: int) -> None:
    before = {
        "interfaces": [{"name": "lo", "sandbox": NETNS}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
    }
    found = document(add(pod, conf(prevResult=before)))
    assert [one["name"] for one in found["interfaces"]] == ["lo", "pw-pods", "pw0123456789ab", "eth0"]
    engine = RecordingEngine()
    before["interfaces"][0]["name"] = "eth0"
    code, msg = error_of(add(pod, conf(prevResult=before), engine))
    assert code == 7 and "eth0" in msg
    assert engine.asked == []


def test_add_without_the_namespace_is_code_8_with_the_reason() -> None:
    engine = RecordingEngine()
    code, msg = error_of(handle(call("ADD", conf(), pod_errno=2), engine))
    assert (code, engine.asked) == (8, [])
    assert NETNS in msg and "No such file" in msg


@pytest.mark.kernel
def test_add_refuses_what_is_no_network_namespace_and_the_nodes_own(pod: int) -> None:
    with open("/dev/null", "rb") as other, open("/proc/self/ns/uts", "rb") as uts:
        for file in (other, uts):
            code, msg = error_of(add(file.fileno(), conf()))
            assert code == 8 and "not a network namespace" in msg
    own = Call(env=call("ADD", {}).env, stdin=call("ADD", conf()).stdin, pod_fd=pod, caller_fd=pod)
    code, msg = error_of(handle(own, RecordingEngine()))
    assert code == 8 and "own namespace" in msg


@pytest.mark.parametrize("body", [conf(), conf(prevResult=None), conf(runtimeConfig=3), conf(prevResult=[])])
@pytest.mark.parametrize("netns", [NETNS, "", "/gone", "/\udcff"])
def test_del_needs_container_and_interface_only(body: Any, netns: str) -> None:
    engine = RecordingEngine()
    for _ in range(2):
        answer = handle(call("DEL", body, CNI_NETNS=netns, CNI_ARGS="Unknown=1"), engine)
        assert answer == Answer(0)
    assert engine.asked == [("delete", CONTAINER, "eth0")] * 2


@pytest.mark.kernel
def test_check_compares_the_addresses_of_its_interface(pod: int) -> None:
    before = document(add(pod, conf()))
    before["interfaces"].append({"name": "net1", "sandbox": NETNS})
    before["ips"].append({"address": "192.0.2.1/24", "interface": 3})
    engine = RecordingEngine()
    answer = handle(call("CHECK", conf(prevResult=before), pod_fd=pod), engine)
    assert answer == Answer(0)
    left = msgspec.structs.replace(WANTED, mac=before["interfaces"][2]["mac"])
    assert engine.asked == [("check", left, BOTH)]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (conf(), 7),
        (conf(prevResult=None), 7),
        (conf(prevResult={"interfaces": [{"name": "net1", "sandbox": NETNS}]}), 7),
        (conf(cniVersion="0.3.1", prevResult={}), 1),
    ],
)
def test_check_needs_a_prev_result_that_names_the_interface(pod: int, body: Any, code: int) -> None:
    engine = RecordingEngine()
    assert error_of(handle(call("CHECK", body, pod_fd=pod), engine))[0] == code
    assert engine.asked == []


@pytest.mark.kernel
def test_check_says_what_is_missing(pod: int) -> None:
    engine = RecordingEngine(Conflict("the address 10.244.1.7 is gone", "eth0"))
    body = conf(prevResult={"ips": [{"address": "10.244.1.7/24"}]})
    answer = handle(call("CHECK", body, pod_fd=pod), engine)
    assert error_of(answer) == (101, "the address 10.244.1.7 is gone")
    assert document(answer)["details"] == "eth0"


def bare(command: str, body: Any, engine: RecordingEngine) -> Answer:
    return handle(call(command, body, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS=""), engine)


def test_gc_keeps_what_is_valid() -> None:
    engine = RecordingEngine()
    valid = [{"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "net1"}]
    assert bare("GC", conf(**{"cni.dev/valid-attachments": valid}), engine) == Answer(0)
    assert bare("GC", conf(network="blue", **{"cni.dev/valid-attachments": None}), engine) == Answer(0)
    assert bare("GC", conf(), engine) == Answer(0)  # libcni's, without a list: nothing is asked
    assert engine.asked == [
        ("gc", "pods", frozenset({("a", "eth0"), ("b", "net1")})),
        ("gc", "blue", frozenset()),
    ]


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("the disk is full"),
        InvalidInput("there is no network pods"),
        OSError(30, "Read-only"),
        KeyError(),
    ],
)
def test_status_is_code_50_with_why(failure: Exception) -> None:
    assert bare("STATUS", conf(), RecordingEngine()) == Answer(0)
    code, msg = error_of(bare("STATUS", conf(), RecordingEngine(failure)))
    assert code == (100 if isinstance(failure, KeyError) else 50)
    assert msg


@pytest.mark.parametrize(
    ("stdin", "version"),
    [
        (b'{"cniVersion":"0.4.0"}', "0.4.0"),
        (b'{"cniVersion":"7"}', "1.1.0"),
        (b'{"cniversion":"0.4.0"}', "1.1.0"),
        (b'{"cniVersion":"0.4.0"', "1.1.0"),
        (b"[]", "1.1.0"),
        (b"", "1.1.0"),
    ],
)
def test_version_never_fails(stdin: bytes, version: str) -> None:
    answer = bare("VERSION", stdin, RecordingEngine())
    assert answer.exit_code == 0
    assert document(answer) == {"cniVersion": version, "supportedVersions": list(VERSIONS)}


@pytest.mark.parametrize("command", ["", "add", "UPDATE"])
def test_an_unknown_command_is_code_4(command: str) -> None:
    assert error_of(handle(call(command, conf()), RecordingEngine()))[0] == 4


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (InvalidInput("x"), 7),
        (Conflict("x"), 101),
        (Unavailable("x"), 11),
        (Exhausted("x"), 11),
        (PodwayError("x"), 100),
        (OSError(28, "No space left on device"), 5),
        (TimeoutError(), 5),
        (RuntimeError("\udcff"), 100),
        (RecursionError(), 100),
        (MemoryError(), 100),
    ],
)
def test_what_the_engine_raises_becomes_a_document(pod: int, failure: Exception, code: int) -> None:
    answer = add(pod, conf(cniVersion="0.4.0"), RecordingEngine(failure))
    assert error_of(answer)[0] == code
    assert document(answer)["cniVersion"] == "0.4.0"
    assert b"Traceback" not in answer.stdout


def test_where_and_fix_are_the_details() -> None:
    failure = Conflict("taken", "port 80/tcp", "choose another")
    answer = handle(call("DEL", conf()), RecordingEngine(failure))
    assert document(answer)["details"] == "port 80/tcp; choose another"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KEYS = ["cniVersion", "name", "network", "mtu", "routes", "dns", "args", "runtimeConfig", "prevResult"]
INNER = ["portMappings", "bandwidth", "ips", "mac", "ipRanges", "interfaces", "cni", "subnet", "address"]
ANY_CONF = st.dictionaries(
    st.sampled_from(KEYS),
    ANY_JSON | st.dictionaries(st.sampled_from(INNER), ANY_JSON, max_size=4),
).map(lambda more: conf(**more))
COMMANDS = st.sampled_from(["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", ""])
TEXT = st.text(max_size=20)


@pytest.mark.kernel
@settings(max_examples=400)
@given(
    command=COMMANDS,
    stdin=st.binary(max_size=200) | ANY_CONF.map(msgspec.json.encode) | ANY_JSON.map(msgspec.json.encode),
    container=st.just("c") | TEXT,
    ifname=st.just("eth0") | TEXT,
    arguments=TEXT,
)
def test_anything_is_answered_with_a_document(
    pod: int, command: str, stdin: bytes, container: str, ifname: str, arguments: str
) -> None:
    env = {"CNI_CONTAINERID": container, "CNI_IFNAME": ifname, "CNI_ARGS": arguments}
    answer = handle(call(command, stdin, pod_fd=pod, **env), RecordingEngine())
    if answer.exit_code:
        error_of(answer)
    elif answer.stdout:
        assert document(answer)["cniVersion"] in VERSIONS
