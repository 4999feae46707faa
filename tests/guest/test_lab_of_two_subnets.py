"""A whole lab in the guest: two subnets with a router between, by IPIP and by WireGuard."""

from __future__ import annotations

import ipaddress
import os
import signal
from collections.abc import Iterator

import pytest
from changing import Lab, until
from guest_lab import DRAIN, PATIENCE, RATE, SIZE, change, plain, reach_all, tunnelled
from guest_lab import lab as running
from lab_tools import podway
from streams import running as traffic

from podway.lab.place import find
from podway.observe import client

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]
SIDES = {"node1": "left", "node2": "left", "node3": "right"}
WHY = "the keys were right, and UDP 51820 passed then"
ACROSS, WITHIN = {(4, "across"), (41, "across")}, {(4, "within"), (41, "within")}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("lab"), {"preset": "calico-crosssubnet"}, SIDES) as made:
        yield made


def agent(lab: Lab, node: str) -> str:
    """Its socket, for questions that are asked again and again: a command takes seconds here."""
    return str(find(lab.name).node(node) / "agent.sock")


def verdicts(lab: Lab) -> dict[str, str]:
    return {peer.name: peer.title for peer in client.peers(agent(lab, "node1"))}


def chosen(lab: Lab, node: str, peer: str) -> set[str]:
    """The paths of all families."""
    return {path.path for path in client.choices(agent(lab, node)) if path.peer == peer}


def wait_for_neighbours(lab: Lab) -> None:
    """Until node1 and node2 send each other without a tunnel, which node3 is not sent without."""
    wanted = {("node1", "node2"): "direct", ("node2", "node1"): "direct", ("node1", "node3"): "tunnel"}
    until(
        "neighbours are sent to directly",
        lambda: all(chosen(lab, *p) == {w} for p, w in wanted.items()),
        PATIENCE,
    )


def test_ipip_across_subnets_alone(lab: Lab) -> None:
    """Preset calico-crosssubnet: once neighbours are proved, pods' packets go to them as they are."""
    wait_for_neighbours(lab)
    frames = reach_all(lab)
    assert tunnelled(frames) == ACROSS and plain(frames)


def test_an_agent_is_killed_and_another_started(lab: Lab) -> None:
    """No packet is lost meanwhile."""
    with traffic(lab.pods(), RATE, SIZE, DRAIN) as seen:
        os.kill(lab.agent_of("node1"), signal.SIGKILL)
        until("it is gone", lambda: not lab.has_agent("node1"), PATIENCE)
        lab.start_agent("node1")
        lab.inside("node1", "podway", "status", "--wait", "--timeout", str(PATIENCE))
    seen.verify(5)


def test_ipip_always(lab: Lab) -> None:
    """Preset calico-ipip, changed to under traffic: within a subnet too."""
    frames = change(lab, {"preset": "calico-ipip"})
    assert tunnelled(frames) == ACROSS | WITHIN and not plain(frames)


@pytest.mark.parametrize("protocol", [4, 41])
def test_a_protocol_that_is_let_through_nowhere_is_told_by_name(lab: Lab, protocol: int) -> None:
    """Each family has its own; the other goes on meanwhile."""
    podway("partition", "--name", lab.name, "node1", "--only", f"proto/{protocol}")
    wanted = {f"protocol {protocol} blocked"}
    until("it is blocked", lambda: set(verdicts(lab).values()) == wanted, PATIENCE)
    podway("heal", "--name", lab.name)
    until("it passes again", lambda: set(verdicts(lab).values()) == {"ok"}, PATIENCE)


def test_wireguard_everywhere(lab: Lab) -> None:
    """Preset calico-wireguard, changed to under traffic: a handshake with every peer, nothing in clear."""
    frames = change(lab, {"preset": "calico-wireguard"})
    assert frames and not tunnelled(frames) and not plain(frames)
    for peer in client.peers(agent(lab, "node1")):
        assert all(path.handshake for path in peer.paths if path.layer == "overlay"), peer
    wide = lab.inside("node1", "podway", "get", "peers", "-o", "wide")
    assert wide.count(", handshake ") == 4, wide  # two peers, two families


def test_a_shut_port_is_told_by_name_and_how_old_the_handshake_is(lab: Lab) -> None:
    """Also on a machine that has br_netfilter, which takes IP packets past much of bridges' filters."""
    podway("partition", "--name", lab.name, "node1", "--only", "udp/51820")
    until("it is blocked", lambda: set(verdicts(lab).values()) == {"UDP 51820 blocked"}, PATIENCE)
    for peer in client.peers(agent(lab, "node1")):
        assert peer.reason.endswith(WHY), peer
    podway("heal", "--name", lab.name)
    until("it passes again", lambda: set(verdicts(lab).values()) == {"ok"}, PATIENCE)


def test_neighbours_in_the_clear_where_that_is_allowed(lab: Lab) -> None:
    """directWithinSubnet of WireGuard, changed to under traffic: nothing in clear passes the router."""
    direct = {"directWithinSubnet": True, "allowPlaintext": True}
    frames = plain(change(lab, {"preset": "calico-wireguard", "wireguard": direct}, wait_for_neighbours))
    beyond = [ipaddress.ip_address(one).packed for one in lab.pods()[2].addresses]
    assert frames and not [frame for frame in frames if any(one in frame[:54] for one in beyond)]
