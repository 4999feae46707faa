"""Documents are read strictly, each problem with its path and what to do; stored records leniently."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.model import documents
from podway.model.documents import InvalidDocument, decode, encode, resolve, spec_json
from podway.model.errors import InvalidInput
from podway.model.resources import Block, BlockSpec, Network, NetworkSpec, Node, NodeSpec, Pool
from podway.model.stored import resource, snapshot
from podway.store import Record


def network(name: Any = "pods", **spec: Any) -> dict[str, Any]:
    spec.setdefault("pools", [{"cidr": "10.244.0.0/16"}])
    return {"apiVersion": "podway.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": spec}


def node(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "podway.dev/v1", "kind": "Node", "metadata": {"name": "a"}, "spec": spec}


def problems(document: Any) -> list[tuple[str, str, str]]:
    with pytest.raises(InvalidDocument) as caught:
        decode(document)
    return [(one.path, one.what, one.fix) for one in caught.value.problems]


def one(document: Any) -> tuple[str, str, str]:
    (problem,) = problems(document)
    return problem


def pool(cidr: Any, **more: Any) -> dict[str, Any]:
    return network(pools=[{"cidr": cidr, **more}])


def test_a_network_is_decoded() -> None:
    got = decode(
        network(
            preset="flannel-host-gw",
            pools=[{"cidr": "10.244.0.0/16", "blockSize": 25}, {"cidr": "fd00:10:244::/48"}],
            mtu=1400,
            spoofProtection=False,
            bridge={"name": "cni0", "hairpin": False},
        )
    )
    assert isinstance(got, Network)
    assert got.spec.pools[0].block_size == 25
    assert (got.spec.mtu, got.spec.spoof_protection, got.spec.bridge.name) == (1400, False, "cni0")
    assert (resolve(got).spec.attach, resolve(got).spec.transport) == ("bridge", "host-gw")


def test_prefixes_and_addresses_have_one_spelling() -> None:
    got = decode(pool("FD00:0010:244:0::/48"))
    assert isinstance(got, Network) and got.spec.pools[0].cidr == "fd00:10:244::/48"
    got = decode(node(addresses=["FD00::0001/64"]))
    assert isinstance(got, Node) and got.spec.addresses == ("fd00::1/64",)


# the frame -----------------------------------------------------------------------------------------


KINDS = "known: Network, Node, BGPConfiguration, BGPPeer, BGPFilter, BGPAdvertisement"


@pytest.mark.parametrize("document", [None, [], "text", 1, True])
def test_a_document_is_a_mapping(document: Any) -> None:
    assert "mapping" in one(document)[1]


@pytest.mark.parametrize(
    ("change", "path", "fix"),
    [
        ({"apiVersion": "podway.dev/v2"}, "apiVersion", "write podway.dev/v1"),
        ({"apiVersion": None}, "apiVersion", "write podway.dev/v1"),
        ({"apiVersion": ["podway.dev/v1"]}, "apiVersion", "write podway.dev/v1"),
        ({"kind": "network"}, "kind", "did you mean Network?"),
        (
            {"kind": "Pod"},
            "kind",
            KINDS,
        ),
        (
            {"kind": None},
            "kind",
            KINDS,
        ),
        (
            {"kind": {"x": 1}},
            "kind",
            KINDS,
        ),
        ({"kind": "Block"}, "kind", "declare the pools of a Network"),
        ({"metdata": 1}, "metdata", "did you mean metadata?"),
        ({1: 1}, "1", "known: apiVersion, kind, metadata, spec"),
        ({"metadata": None}, "metadata.name", "metadata: {name: NAME}"),
        ({"metadata": {"name": 1}}, "metadata.name", "metadata: {name: NAME}"),
        ({"metadata": {"name": "a", "lables": {}}}, "metadata.lables", "known: name"),
    ],
)
def test_the_frame_is_strict(change: dict[Any, Any], path: str, fix: str) -> None:
    found = one(network() | change)
    assert (found[0], found[2]) == (path, fix)


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a.b", "a/b", "ä", "a b", "a\n", "x" * 64])
def test_illegal_names(name: str) -> None:
    assert one(network(name))[0] == "metadata.name"


@pytest.mark.parametrize("name", ["a", "0", "a-b", "x" * 63])
def test_legal_names(name: str) -> None:
    assert encode(decode(network(name)))["metadata"] == {"name": name}


# specs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "path", "fix"),
    [
        (network(masqerade=True), "spec.masqerade", "did you mean masquerade?"),
        (network(block_size=1), "spec.block_size", "known"),
        (pool("10.0.0.0/16", blocksize=24), "spec.pools[0].blocksize", "did you mean blockSize?"),
        (pool("10.0.0.0/16", x={"y": 1}), "spec.pools[0].x", "known: cidr"),
        (network(bridge={"harpin": True}), "spec.bridge.harpin", "did you mean hairpin?"),
        (node(address=["192.0.2.1/24"]), "spec.address", "did you mean addresses?"),
        (network(transport="hostgw"), "spec.transport", "did you mean host-gw?"),
        (network(attach="Bridge"), "spec.attach", "did you mean bridge?"),
        (network(preset="flannel"), "spec.preset", ""),
    ],
)
def test_what_is_not_known_comes_with_a_suggestion(document: Any, path: str, fix: str) -> None:
    found = one(document)
    assert found[0] == path and found[2].startswith(fix) and found[2]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (network(pools="10.0.0.0/8"), "spec.pools"),
        (network(pools=["10.0.0.0/8"]), "spec.pools[0]"),
        (pool(10), "spec.pools[0].cidr"),
        (pool("10.0.0.0/16", blockSize="24"), "spec.pools[0].blockSize"),
        (pool("10.0.0.0/16", blockSize=True), "spec.pools[0].blockSize"),
        (pool("10.0.0.0/16", reserved="10.0.0.1"), "spec.pools[0].reserved"),
        (network(masquerade="no"), "spec.masquerade"),
        (network(mtu="1500"), "spec.mtu"),
        (network(mtu=1500.5), "spec.mtu"),
        (network(bridge=[]), "spec.bridge"),
        (network(cooldown="30s"), "spec.cooldown"),
        (network(preset=None), "spec.preset"),
        (node(addresses=[1]), "spec.addresses[0]"),
        (node(addresses={}), "spec.addresses"),
        (network() | {"spec": None}, "spec"),
        (network() | {"spec": []}, "spec"),
    ],
)
def test_a_wrong_type_names_its_path(document: Any, path: str) -> None:
    assert one(document)[0] == path


def test_a_network_without_pools() -> None:
    document = network() | {"spec": {}}
    assert "pools" in one(document)[1]
    assert one(network(pools=[]))[0] == "spec.pools"


@pytest.mark.parametrize(
    ("cidr", "more", "path", "words"),
    [
        ("10.244.0.1/16", {}, "cidr", "10.244.0.0/16"),
        ("10.244.0.0", {}, "cidr", "no prefix length"),
        ("10.244.0.0/33", {}, "cidr", "no prefix"),
        ("pods", {}, "cidr", "no prefix"),
        ("0.0.0.0/0", {"blockSize": 24}, "cidr", "overlaps 0.0.0.0/8"),
        ("127.0.0.0/16", {}, "cidr", "127.0.0.0/8"),
        ("224.0.0.0/8", {}, "cidr", "224.0.0.0/4"),
        ("fe80::/48", {}, "cidr", "fe80::/10"),
        ("10.244.0.0/25", {}, "blockSize", "/24 does not fit"),
        ("10.244.0.0/16", {"blockSize": 8}, "blockSize", "does not fit"),
        ("10.244.0.0/16", {"blockSize": 0}, "blockSize", "does not fit"),
        ("10.244.0.0/16", {"blockSize": -1}, "blockSize", "does not fit"),
        ("10.244.0.0/16", {"blockSize": 31}, "blockSize", "no address for a pod"),
        ("10.244.0.0/16", {"blockSize": 99}, "blockSize", "no address for a pod"),
        ("fd00::/65", {}, "blockSize", "/64 does not fit"),
        ("10.244.0.0/16", {"reserved": ["10.245.0.1"]}, "reserved[0]", "not inside"),
        ("10.244.0.0/16", {"reserved": ["fd00::1"]}, "reserved[0]", "not inside"),
        ("10.244.0.0/16", {"reserved": ["10.244.0.9-10.244.0.1"]}, "reserved[0]", "range"),
        ("10.244.0.0/16", {"reserved": ["10.244.0.1-10.245.0.0"]}, "reserved[0]", "not inside"),
        ("10.244.0.0/16", {"reserved": ["x"]}, "reserved[0]", "range"),
    ],
)
def test_what_a_pool_can_not_be(cidr: str, more: dict[str, Any], path: str, words: str) -> None:
    found = [f for f in problems(pool(cidr, **more)) if f[0] == f"spec.pools[0].{path}"]
    assert any(words in what for _, what, _ in found), found


def test_pools_of_one_network_overlap() -> None:
    found = one(network(pools=[{"cidr": "10.0.0.0/8"}, {"cidr": "10.244.0.0/16"}]))
    assert found[0] == "spec.pools[1].cidr" and "pools[0]" in found[1]


@pytest.mark.parametrize(
    ("mtu", "cidr", "legal"),
    [
        (575, "10.0.0.0/16", False),
        (576, "10.0.0.0/16", True),
        (65535, "10.0.0.0/16", True),
        (65536, "10.0.0.0/16", False),
        (1279, "fd00::/48", False),
        (1280, "fd00::/48", True),
        (-1, "10.0.0.0/16", False),
        ("auto", "fd00::/48", True),
        ("automatic", "fd00::/48", False),
    ],
)
def test_bounds_of_the_mtu(mtu: Any, cidr: str, legal: bool) -> None:
    document = network(pools=[{"cidr": cidr}], mtu=mtu)
    if legal:
        decode(document)
    else:
        assert one(document)[0] == "spec.mtu"


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"preset": "docker", "transport": "host-gw"}, "spec.transport"),
        ({"preset": "flannel-host-gw", "transport": "none"}, "spec.transport"),
        ({"preset": "docker", "attach": "routed"}, "spec.attach"),
    ],
)
def test_a_preset_and_what_contradicts_it(spec: dict[str, Any], path: str) -> None:
    found = one(network(**spec))
    assert found[0] == path and "contradicts" in found[1]


def test_a_preset_and_what_agrees_with_it() -> None:
    decode(network(preset="flannel-host-gw", attach="bridge", transport="host-gw"))


def test_routed_has_no_bridge() -> None:
    decode(network(attach="routed"))
    found = one(network(attach="routed", bridge={"hairpin": True}))
    assert found[0] == "spec.bridge" and "no bridge" in found[1]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"bridge": {"name": "x" * 16}}, "spec.bridge.name"),
        ({"bridge": {"name": "a/b"}}, "spec.bridge.name"),
        ({"bridge": {"name": "a b"}}, "spec.bridge.name"),
        ({"bridge": {"name": ".."}}, "spec.bridge.name"),
        ({"bridge": {"adopt": True}}, "spec.bridge.adopt"),
        ({"cooldown": -1}, "spec.cooldown"),
    ],
)
def test_what_a_network_can_not_be(spec: dict[str, Any], path: str) -> None:
    assert one(network(**spec))[0] == path


@pytest.mark.parametrize("address", ["192.0.2.1", "x", "192.0.2.1/33", ""])
def test_addresses_of_a_node(address: str) -> None:
    path, _, fix = one(node(addresses=["192.0.2.9/24", address]))
    assert path == "spec.addresses[1]" and fix


def test_all_problems_of_a_document_are_told_at_once() -> None:
    document = network("A", preset="x", pools=[{"cidr": "10.0.0.1/8", "y": 1}]) | {"apiVersion": "v1"}
    assert {path for path, _, _ in problems(document)} == {
        "apiVersion",
        "metadata.name",
        "spec.pools[0].y",
        "spec.preset",
        "spec.pools[0].cidr",
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["apiVersion", "kind", "metadata", "name", "spec", "pools", "cidr", "mtu", "bridge", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_input_is_decoded_or_refused_with_a_problem(value: Any) -> None:
    for document in (value, network() | {"spec": value}, node() | {"metadata": value}, pool(value)):
        try:
            decode(document)
        except InvalidDocument as error:
            assert error.problems and all(one.what for one in error.problems)


# encoding and what is stored -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Network(name="pods", spec=NetworkSpec(pools=(Pool(cidr="10.0.0.0/16", reserved=("10.0.0.1",)),))),
        Network(name="p", spec=NetworkSpec(pools=(Pool(cidr="fd00::/48"),), preset="docker", mtu=1400)),
        Node(name="a", spec=NodeSpec(addresses=("192.0.2.1/24",))),
    ],
)
def test_a_document_comes_back_as_it_went(value: documents.Resource) -> None:
    document = json.loads(json.dumps(encode(value)))
    assert decode(document) == value
    record = Record(kind=type(value).__name__, name=document["metadata"]["name"], spec=spec_json(value))
    assert resource(record) == value


def test_resolving_twice_changes_nothing() -> None:
    value = decode(network(preset="flannel-host-gw"))
    assert isinstance(value, Network)
    assert resolve(resolve(value)) == resolve(value)


BLOCK = BlockSpec(network="pods", node="a", attach="bridge")


def records() -> list[Record]:
    return [
        Record(
            kind="Network",
            name="pods",
            spec=b'{"preset":"flannel-host-gw","pools":[{"cidr":"10.244.0.0/16"}],"later":1}',
        ),
        Record(kind="Node", name="a", spec=b"{}", status=b'{"addresses":["192.0.2.1/24"],"later":1}'),
        Record(kind="Node", name="b", spec=b'{"addresses":["192.0.2.2/24"]}', status=b'{"addresses":["x"]}'),
        Record(kind="Node", name="c", status=b"garbage"),
        Record(kind="Block", name="10.244.0.0/24", spec=msgspec.json.encode(BLOCK)),
    ]


def test_a_snapshot_is_resolved_and_lenient_to_later_fields() -> None:
    known, unreadable = snapshot(records())
    assert known.synced and not unreadable
    assert known.networks["pods"].spec.transport == "host-gw"
    assert known.nodes["a"].spec.addresses == ("192.0.2.1/24",)  # found by its agent
    assert known.nodes["b"].spec.addresses == ("192.0.2.2/24",)  # declared
    assert known.nodes["c"].spec.addresses == ()
    assert known.blocks["10.244.0.0/24"] == Block(cidr="10.244.0.0/24", spec=BLOCK)


@pytest.mark.parametrize(
    "odd",
    [
        Record(kind="Network", name="odd", spec=b"garbage"),
        Record(kind="Network", name="odd", spec=b'{"pools":[],"transport":"vxlan9"}'),
        Record(kind="Network", name="odd", spec=b'{"pools":[],"preset":"later"}'),
        Record(kind="Block", name="10.0.0.0/24", spec=b"{}"),
    ],
)
def test_what_is_not_understood_is_in_the_snapshot(odd: Record) -> None:
    """A record of a later version is no reason to remove what it stands for: the planner must know of it."""
    known, unreadable = snapshot([*records(), odd])
    assert known.synced and known.unreadable == tuple(unreadable) and len(unreadable) == 1
    assert odd.name == unreadable[0].name and odd.name in unreadable[0].why
    assert "pods" in known.networks and "a" in known.nodes


def test_the_last_good_value_of_what_is_not_understood_stays_in_force() -> None:
    last, _ = snapshot(records())
    broken = [msgspec.structs.replace(one, spec=b"garbage") for one in records()]
    known, unreadable = snapshot(broken, last)
    assert len(unreadable) == len(broken)
    assert msgspec.structs.replace(known, unreadable=()) == last


@pytest.mark.parametrize(
    "malformed",
    [
        Record(kind="Network", name="n", spec=b'{"pools":[{"cidr":"10.244.0.1/16"}]}'),
        Record(kind="Network", name="n", spec=b'{"pools":[{"cidr":"10.244.0.0/16"}],"mtu":3}'),
        Record(kind="Node", name="n", spec=b'{"addresses":["192.0.2.1"]}'),
        Record(kind="Block", name="n", spec=msgspec.json.encode(BLOCK)),
    ],
)
def test_what_can_not_be_right_is_isolated(malformed: Record) -> None:
    known, unreadable = snapshot([*records(), malformed])
    assert [one.name for one in unreadable] == ["n"]
    assert known.networks.keys() == {"pods"} and known.nodes.keys() == {"a", "b", "c"}


def test_a_found_address_that_is_none_is_passed_over() -> None:
    status = b'{"addresses":["nonsense","192.0.2.1/24"]}'
    known, _ = snapshot([Record(kind="Node", name="d", status=status)])
    assert known.nodes["d"].spec.addresses == ("192.0.2.1/24",)


def test_a_stored_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidInput):
        resource(Record(kind="Later", name="x"))
