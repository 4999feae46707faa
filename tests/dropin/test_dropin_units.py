"""Translations and plans of the drop-in plugins, without a kernel."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import msgspec
import pytest
from dropin_lab import Lab

from podway.cni import config, install
from podway.cni.dropin import bridge, ranges, static
from podway.cni.dropin.ask import Ask
from podway.cni.errors import CniError
from podway.cni.protocol import Address, Call, Identity, Result, Route
from podway.cni.reader import Section
from podway.model.dropin import BridgePod, Piece, Ptp
from podway.model.errors import Conflict
from podway.model.resources import NodeFacts
from podway.plan.planner import Planner


def ask(conf: dict[str, Any], **env: str) -> Ask:
    """An ADD of eth0."""
    whole = {"cniVersion": "1.1.0", "name": "n1", **conf}
    who = Identity(container="c1", ifname="eth0", namespace="/run/netns/c1")
    return Ask(Call(env=env), config.load(Section(whole), "ADD"), who, None)


def of(**ipam: Any) -> ranges.Settings:
    """What a host-local configuration means."""
    return ranges.settings(ask({"ipam": {"type": "host-local", **ipam}}))


def test_ranges_of_every_spelling() -> None:
    """Old style and new, any case, the runtime's first; bounds as in the reference plugin."""
    found = of(SUBNET="10.1.0.0/24", rangeStart="10.1.0.10", ranges=[[{"subnet": "fd00::/64"}]])
    four, six = (one[0] for one in found.sets)
    assert (four.first, four.last, four.gateway) == ("10.1.0.10", "10.1.0.254", "10.1.0.1")
    assert (six.first, six.last) == ("fd00::1", "fd00::ffff:ffff:ffff:ffff")
    run = {"ipRanges": [[{"subnet": "10.2.0.0/24", "gateway": "10.2.0.9"}]], "ips": ["10.2.0.7/24"]}
    asked = ask({"ipam": {"subnet": "10.1.0.0/24"}, "runtimeConfig": run}, CNI_ARGS="IP=10.1.0.8")
    both = ranges.settings(asked)
    assert [one[0].subnet for one in both.sets] == ["10.2.0.0/24", "10.1.0.0/24"]
    assert both.sets[0][0].gateway == "10.2.0.9" and both.wanted == ("10.1.0.8", "10.2.0.7")


@pytest.mark.parametrize(
    ("ipam", "said"),
    [
        ({}, "ipam.ranges: is missing"),
        ({"subnet": "10.1.0.5/24"}, "ipam.subnet: '10.1.0.5/24' is not a prefix"),
        ({"subnet": "10.1.0.0/31"}, "ipam.subnet: 10.1.0.0/31 is too small"),
        ({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}, "ipam.rangeStart: 10.2.0.1 is not in"),
        ({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}, "comes before"),
        ({"subnet": "10.1.0.0/24", "gateway": "fd00::1"}, "ipam.gateway: fd00::1 is not of the family"),
        ({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}, "mixes IPv4 and IPv6"),
        ({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/25"}]]}, "overlap"),
        ({"ranges": [[]]}, "ipam.ranges[0]: has no range"),
        ({"ranges": [{}]}, "ipam.ranges[0]: must be an array"),
        ({"subnet": "10.1.0.0/24", "dataDir": "networks"}, "ipam.dataDir: 'networks' is no absolute path"),
        ({"subnet": "10.1.0.0/24", "resolvConf": "own"}, "ipam.resolvConf: 'own' is no absolute path"),
    ],
)
def test_what_is_wrong_is_named(ipam: dict[str, Any], said: str) -> None:
    """By its key."""
    with pytest.raises(CniError) as raised:
        of(**ipam)
    assert said in raised.value.what and raised.value.code == 7


def test_a_name_never_leaves_the_directory() -> None:
    """The network's name is a directory of its own."""
    for name in ("../etc", "a/b", ".", ".."):
        with pytest.raises(CniError, match="is not a name"):
            ask({"name": name})


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/nonesuch"])
def test_resolv_conf_is_a_file(path: str) -> None:
    """And nothing that could be read for ever."""
    with pytest.raises(CniError, match=r"ipam\.resolvConf"):
        of(subnet="10.1.0.0/24", resolvConf=path).result([])


def test_gateways_as_the_reference_adds_them() -> None:
    """The first address of a subnet where none is told; one default route a family, unless there is one."""
    ips = (Address(address="10.1.0.5/24"), Address(address="fd00::5/64", gateway="fd00::9"))
    there = Result(ips=ips, routes=(Route(dst="::/0"),))
    found = bridge.with_gateways(there, True, True)
    assert [one.gateway for one in found.ips] == ["10.1.0.1", "fd00::9"]
    assert found.routes == (Route(dst="::/0"), Route(dst="0.0.0.0/0", gw="10.1.0.1"))
    assert bridge.with_gateways(there, False, False).ips[0].gateway == ""


def test_static_addresses_need_a_prefix_length() -> None:
    """Also those that a runtime asks for."""
    with pytest.raises(CniError, match=r"runtimeConfig\.ips\[0\]: '10\.1\.0\.5'"):
        static.given(ask({"ipam": {"type": "static"}, "runtimeConfig": {"ips": ["10.1.0.5"]}}))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Address(address="10.1.0.5/24", gateway="10.1.0.1"), ""),
        (Address(address="10.1.0.6/24", gateway="10.1.0.1"), "is not in prevResult"),
        (Address(address="10.1.0.5/24", gateway="10.1.0.9"), "has another gateway"),
    ],
)
def test_check_of_static_compares_with_what_is_written_down(told: Address, said: str) -> None:
    """An address that is missing, too, which the reference lets pass."""
    one = ask({"ipam": {"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]}})
    with pytest.raises(Conflict, match=said) if said else contextlib.nullcontext():
        static.require(one._replace(before=Result(ips=(told,))))


def test_pods_of_a_subnet_share_its_exemption() -> None:
    """It lives while any of them does; a planner that was told all at once agrees."""
    planner = Planner(NodeFacts(name="a"))
    pieces = [
        Piece(
            container=f"c{number}",
            ifname="eth0",
            configuration="n1",
            addresses=(f"10.1.0.{number}/24",),
            want=BridgePod(bridge="cni0", link=f"veth{number}", mac="02:00:00:00:00:01", masquerade=True)
            if number < 4
            else Ptp(link="veth4", mac="02:00:00:00:00:04", gateways=("10.1.0.1",), masquerade=True),
        )
        for number in (2, 3, 4)
    ]
    shared = ("nftelement", "inet", "within4", "10.1.0.0/24", "10.1.0.0/24")
    for piece in pieces:
        planner.update_piece(piece.id, piece)
    assert shared in planner.desired and not planner.conflicts
    for piece in pieces[:2]:
        planner.update_piece(piece.id, None)
    assert shared in planner.desired
    fresh = Planner(NodeFacts(name="a"))
    fresh.update_piece(pieces[2].id, pieces[2])
    assert fresh.desired == planner.desired
    planner.update_piece(pieces[2].id, None)
    assert shared not in planner.desired


def test_a_piece_survives_the_database() -> None:
    """What is written is what is read."""
    want = Ptp(link="veth4", mac="02:00:00:00:00:04", gateways=("10.1.0.1",))
    piece = Piece(container="c", ifname="eth0", configuration="n", want=want)
    assert msgspec.json.decode(msgspec.json.encode(piece), type=Piece) == piece
    assert piece.id == "c/eth0/n/ptp"


@pytest.mark.kernel
def test_the_executable_in_python_finds_its_agent_too(lab: Lab, pod: str) -> None:
    """By the file beside it, by its name, and without an agent."""
    (lab.bin / "loopback").write_text(install._SCRIPT.format(python=sys.executable))
    conf = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}
    assert lab.call("ADD", conf, pod, ifname="lo")["interfaces"][0]["name"] == "lo"
    lab.start()
    lab.call("DEL", conf, pod, ifname="lo")
