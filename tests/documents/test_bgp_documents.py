"""Every wrong value of a BGP document is an error that says where, and what would be right."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from podway.model.documents import InvalidDocument, decode, encode, spec_json, veiled
from podway.model.resources import BgpResource
from podway.model.stored import snapshot
from podway.store import Record

PEER: dict[str, Any] = {"asNumber": 65001, "peerAddress": "192.0.2.254"}


def _document(kind: str, spec: dict[str, Any], name: str = "tor") -> dict[str, Any]:
    return {"apiVersion": "podway.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "spec", "path"),
    [
        ("BGPConfiguration", {}, "metadata.name"),
        ("BGPPeer", PEER | {"asNumber": 0}, "spec.asNumber"),
        ("BGPPeer", PEER | {"asNumber": 23456}, "spec.asNumber"),
        ("BGPPeer", PEER | {"asNumber": 4294967295}, "spec.asNumber"),
        ("BGPPeer", PEER | {"asNumber": "x"}, "spec.asNumber"),
        ("BGPPeer", {"asNumber": 1}, "spec.peerAddress"),
        ("BGPPeer", PEER | {"peerRange": "198.51.100.0/24"}, "spec.peerAddress"),
        ("BGPPeer", PEER | {"peerAddress": "127.0.0.1"}, "spec.peerAddress"),
        ("BGPPeer", PEER | {"peerAddress": "router"}, "spec.peerAddress"),
        ("BGPPeer", PEER | {"peerAddress": "fe80::1"}, "spec.peerAddress"),
        ("BGPPeer", {"asNumber": 1, "peerRange": "fe80::/64"}, "spec.peerRange"),
        ("BGPPeer", {"asNumber": 1, "peerRange": "192.0.2.1/24"}, "spec.peerRange"),
        ("BGPPeer", PEER | {"hold": 2}, "spec.hold"),
        ("BGPPeer", PEER | {"hold": 9, "keepalive": 9}, "spec.keepalive"),
        ("BGPPeer", PEER | {"password": 'a"; }'}, "spec.password"),
        ("BGPPeer", PEER | {"password": "x" * 81}, "spec.password"),
        ("BGPPeer", PEER | {"ttlSecurity": True, "multihop": 2}, "spec.ttlSecurity"),
        ("BGPPeer", PEER | {"nodeSelector": "rack in"}, "spec.nodeSelector"),
        ("BGPPeer", PEER | {"bdf": True}, "spec.bdf"),
        ("BGPFilter", {"imports": [{"action": "allow"}]}, "spec.imports[0].action"),
        (
            "BGPFilter",
            {"exports": [{"action": "accept", "prefixes": [{"cidr": "10.0.0.0/8", "min": 4}]}]},
            "spec.exports[0].prefixes[0]",
        ),
        (
            "BGPFilter",
            {"exports": [{"action": "accept", "addCommunities": ["1;drop"]}]},
            "spec.exports[0].addCommunities[0]",
        ),
        (
            "BGPFilter",
            {"imports": [{"action": "accept", "communities": ["70000:1"]}]},
            "spec.imports[0].communities[0]",
        ),
        ("BGPFilter", {"imports": [{"action": "accept", "prepend": 17}]}, "spec.imports[0].prepend"),
        ("BGPAdvertisement", {"prefixes": []}, "spec.prefixes"),
        ("BGPAdvertisement", {"prefixes": ["0.0.0.0/0"]}, "spec.prefixes[0]"),
        ("BGPAdvertisement", {"prefixes": ["10.0.0.1/8"]}, "spec.prefixes[0]"),
        (
            "BGPAdvertisement",
            {"prefixes": ["10.0.0.0/8"], "externalTrafficPolicy": "Local"},
            "spec.nodes",
        ),
        ("BGPAdvertisement", {"prefixes": ["10.0.0.0/8"], "nodes": ["a"]}, "spec.nodes"),
    ],
)
def test_wrong_values(kind: str, spec: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        decode(_document(kind, spec))
    assert path in [problem.path for problem in caught.value.problems]


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_a_mesh_is_turned_on_and_off_without_quotes(word: str) -> None:
    """YAML 1.1 reads the words as true and false."""
    spec = yaml.safe_load(f"mesh: {word}")
    value = decode(_document("BGPConfiguration", spec, "default"))
    assert encode(value)["spec"].get("mesh", "auto") == word


@pytest.mark.parametrize(
    ("kind", "spec", "name"),
    [
        ("BGPConfiguration", {"asNumber": 4200000000, "mesh": "off", "failover": "fast"}, "default"),
        ("BGPPeer", PEER | {"bfd": True, "multihop": 3, "filters": ["x"], "password": "a;b#{}"}, "tor"),
        ("BGPFilter", {"imports": [{"action": "reject", "asPath": 666}]}, "x"),
        ("BGPAdvertisement", {"prefixes": ["198.51.100.7/32", "fd00:96::/112"]}, "services"),
    ],
)
def test_what_is_right_goes_into_the_snapshot_and_out_again(
    kind: str, spec: dict[str, Any], name: str
) -> None:
    document = _document(kind, spec, name)
    value = decode(document)
    assert isinstance(value, BgpResource)
    assert decode(json.loads(json.dumps(encode(value)))) == value
    record = Record(kind=kind, name=name, spec=spec_json(value))
    found, unreadable = snapshot([record])
    assert not unreadable
    bad = Record(kind=kind, name=name, spec=b"{")
    again, unreadable = snapshot([bad], found)
    assert again.bgp == found.bgp and unreadable[0].kind == kind


def test_a_password_is_not_for_a_terminal_but_a_change_of_it_is_seen() -> None:
    shown = [veiled(_document("BGPPeer", PEER | {"password": word})) for word in ("one", "other", "one")]
    assert shown[0] == shown[2] != shown[1] and "one" not in json.dumps(shown)
    network = _document("Network", {"password": "x"})
    assert veiled(network) == network
