"""Flannel's documents in etcd: read as Flannel reads them, written as it writes them, and never trusted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podway.model import flannel
from podway.model.errors import InvalidInput
from podway.model.flannel import Lease
from podway.model.resources import Network, NetworkSpec, Pool
from podway.model.tunnels import VxlanSpec

MAC = "0e:19:7a:2b:aa:01"
DUAL = {
    "Network": "10.244.0.0/16",
    "EnableIPv6": True,
    "IPv6Network": "fd00:10:244::/48",
    "Backend": {"Type": "vxlan", "VNI": 7, "Port": 4789},
}


def config(**values: object) -> flannel.Config:
    return flannel.decode_config(json.dumps({"Network": "10.244.0.0/16"} | values).encode())


def test_a_lease_of_flannel_0_26_is_read() -> None:
    """Byte for byte what flanneld 0.26.7 stored."""
    value = (
        b'{"PublicIP":"192.0.2.5","PublicIPv6":"2001:db8::5","BackendType":"vxlan",'
        b'"BackendData":{"VNI":1,"VtepMAC":"0e:19:7a:2b:aa:01"},'
        b'"BackendV6Data":{"VNI":1,"VtepMAC":"0e:19:7a:2b:aa:02"}}'
    )
    lease = flannel.decode_lease("10.244.9.0-24&fd00:10:244:9::-64", value)
    assert lease.subnets == {4: "10.244.9.0/24", 6: "fd00:10:244:9::/64"}
    assert lease.addresses == {4: "192.0.2.5", 6: "2001:db8::5"}
    assert lease.macs == {4: MAC, 6: "0e:19:7a:2b:aa:02"}
    assert (lease.transport, lease.vni) == ("vxlan", 1)
    assert lease.key == "10.244.9.0-24&fd00:10:244:9::-64"


def test_what_is_written_is_read_back() -> None:
    """Single stack, dual stack and host-gw."""
    for lease in (
        Lease(subnets={4: "10.244.1.0/24"}, addresses={4: "192.0.2.1"}, macs={4: MAC}, vni=3),
        Lease(
            subnets={4: "10.244.1.0/24", 6: "fd00::/64"},
            addresses={4: "192.0.2.1", 6: "2001:db8::1"},
            macs={4: MAC, 6: MAC},
        ),
        Lease(subnets={4: "10.244.1.0/24"}, addresses={4: "192.0.2.1"}, transport="host-gw", vni=0),
    ):
        assert flannel.decode_lease(lease.key, flannel.encode_lease(lease)) == lease


def test_flannels_defaults_are_filled_in() -> None:
    """A /24 a node, the first never leased, VNI 1, port 8472, Go's any case."""
    found = config(Backend={"type": "vxlan"})
    assert (found.transport, found.vni, found.port) == ("vxlan", 1, 8472)
    assert not found.ranges[4].holds("10.244.0.0/24")
    assert found.ranges[4].holds("10.244.1.0/24")
    assert found.ranges[4].holds("10.244.255.0/24")
    assert not found.ranges[4].holds("10.244.1.0/25")
    assert config(Network="10.1.0.0/24").ranges[4].size == 26
    assert config(SubnetMin="10.244.16.0", SubnetMax="10.244.17.0").ranges[4].holds("10.244.17.0/24")
    assert flannel.decode_config(json.dumps(DUAL).encode()).ranges[6].size == 64


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("10.244.1.0-24", b"{"),
        ("10.244.1.7-24", b"{}"),
        ("default", b"{}"),
        ("10.244.1.0-24", b'{"PublicIP":"127.0.0.1","BackendType":"vxlan"}'),
        ("10.244.1.0-24", b'{"PublicIP":"192.0.2.1","BackendData":{"VtepMAC":"01:00:5e:00:00:01"}}'),
        ("10.244.1.0-24", b'{"PublicIP":"192.0.2.1","BackendData":{"VtepMAC":"$(reboot)"}}'),
    ],
)
def test_a_malformed_lease_is_named(key: str, value: bytes) -> None:
    """The error names the key, so that it can be found and mended."""
    with pytest.raises(InvalidInput, match=key):
        flannel.decode_lease(key, value)


@given(st.binary(max_size=60), st.text(max_size=30))
def test_nothing_stored_makes_it_stumble(value: bytes, key: str) -> None:
    """Any bytes are a lease, a config or InvalidInput, and nothing else."""
    for decode in (flannel.decode_config, lambda text: flannel.decode_lease(key, text)):
        try:
            decode(value)
        except InvalidInput:
            pass


def test_disagreements_are_named_one_by_one() -> None:
    """Transport, VNI, port, pool, block length, missing family."""
    spec = NetworkSpec(pools=(Pool(cidr="10.244.0.0/16"),), transport="vxlan", vxlan=VxlanSpec(vni=1))
    whole = config(Backend={"Type": "vxlan"})
    assert flannel.disagreements(Network(name="pods", spec=spec), whole) == []
    other = flannel.decode_config(json.dumps(DUAL | {"SubnetLen": 25}).encode())
    paths = [problem.path for problem in flannel.disagreements(Network(name="pods", spec=spec), other)]
    assert paths == ["spec.vxlan.vni", "spec.vxlan.port", "spec.pools.blockSize", "spec.pools"]
    hostgw = config(Backend={"Type": "host-gw"})
    (problem,) = flannel.disagreements(Network(name="pods", spec=spec), hostgw)
    assert "host-gw" in problem.what
