"""Results: one golden document per spec version, what a version gave is read back, and chains.

After another plugin Podway adds its interface only where nothing is contested; else code 7.
"""

from __future__ import annotations

from typing import Any

import pytest
from cni_fakes import NETNS, RecordingEngine

from podway.cni import result
from podway.cni.errors import CniError
from podway.cni.protocol import VERSIONS, Address, Dns, Interface, Result, Route
from podway.cni.reader import Section
from podway.model.resources import Endpoint, PodRoute
from podway.node.requests import AttachRequest

REQUEST = AttachRequest(container="c0ffee", ifname="eth0", network="pods", namespace=NETNS)
DNS = Dns(nameservers=("10.96.0.10",), domain="example.test", search=("a.test",), options=("ndots:5",))
DNS_SHAPE = {
    "nameservers": ["10.96.0.10"],
    "domain": "example.test",
    "search": ["a.test"],
    "options": ["ndots:5"],
}
ROUTES = [
    {"dst": "0.0.0.0/0", "gw": "10.244.1.1"},
    {"dst": "::/0", "gw": "fd00:10:244:1::1"},
    {"dst": "10.9.0.0/16"},
]
INTERFACES = [
    {"name": "pw-pods"},
    {"name": "pw0123456789ab", "mac": "22:47:bb:f9:3a:28"},
    {"name": "eth0", "mac": "0a:58:0a:f4:01:07", "sandbox": NETNS},
]
IPS = [
    {"interface": 2, "address": "10.244.1.7/24", "gateway": "10.244.1.1"},
    {"interface": 2, "address": "fd00:10:244:1::7/64", "gateway": "fd00:10:244:1::1"},
]
OLDEST = {
    "ip4": {"ip": "10.244.1.7/24", "gateway": "10.244.1.1", "routes": [ROUTES[0], ROUTES[2]]},
    "ip6": {"ip": "fd00:10:244:1::7/64", "gateway": "fd00:10:244:1::1", "routes": [ROUTES[1]]},
    "dns": DNS_SHAPE,
}
MIDDLE = {
    "interfaces": INTERFACES,
    "ips": [{**IPS[0], "version": "4"}, {**IPS[1], "version": "6"}],
    "routes": ROUTES,
    "dns": DNS_SHAPE,
}
FIRST = {"interfaces": INTERFACES, "ips": IPS, "routes": ROUTES, "dns": DNS_SHAPE}
NEWEST = {**FIRST, "interfaces": [*INTERFACES[:2], {**INTERFACES[2], "mtu": 1450}]}
GOLDEN: dict[str, dict[str, Any]] = {
    "0.1.0": OLDEST,
    "0.2.0": OLDEST,
    "0.3.0": MIDDLE,
    "0.3.1": MIDDLE,
    "0.4.0": MIDDLE,
    "1.0.0": FIRST,
    "1.1.0": NEWEST,
}


def endpoint(**more: Any) -> Endpoint:
    return RecordingEngine(**more).add(REQUEST, 0)


def made(**more: Any) -> Result:
    return result.of_endpoint(endpoint(**{"routes": (PodRoute(dst="10.9.0.0/16"),), **more}), REQUEST, DNS)


@pytest.mark.parametrize("version", VERSIONS)
def test_golden(version: str) -> None:
    assert result.encode(made(), version) == {"cniVersion": version, **GOLDEN[version]}


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_what_a_version_says_is_read_back(version: str) -> None:
    shape = result.encode(made(), version)
    found = result.previous(Section({"prevResult": shape}), "1.1.0")
    assert found is not None
    assert result.encode(found, version) == shape


def test_the_oldest_shape_is_read_back_without_interfaces() -> None:
    shape = result.encode(made(), "0.2.0")
    found = result.previous(Section({"prevResult": shape}), "1.1.0")
    assert found is not None
    assert [ip.address for ip in found.ips] == ["10.244.1.7/24", "fd00:10:244:1::7/64"]
    assert {route.dst for route in found.routes} == {route["dst"] for route in ROUTES}


def test_a_routed_pod_has_no_bridge_and_perhaps_no_gateway() -> None:
    shape = result.encode(made(bridge="", gateways=("169.254.1.1",), addresses=("10.1.0.3/32",)), "1.0.0")
    assert [one["name"] for one in shape["interfaces"]] == ["pw0123456789ab", "eth0"]  # type: ignore[union-attr,attr-defined]
    assert shape["ips"] == [{"interface": 1, "address": "10.1.0.3/32", "gateway": "169.254.1.1"}]


def test_no_default_route_where_none_was_asked_for() -> None:
    request = AttachRequest(
        container="c", ifname="net1", network="pods", namespace=NETNS, default_route=False
    )
    assert result.of_endpoint(endpoint(), request, Dns()).routes == ()


def test_a_default_route_of_the_endpoint_is_not_told_twice() -> None:
    own = made(routes=(PodRoute(dst="0.0.0.0/0", gw="10.244.1.9"),))
    assert [route.gw for route in own.routes if route.dst == "0.0.0.0/0"] == ["10.244.1.9"]


def test_fields_of_1_1_are_kept_and_left_out_before() -> None:
    shape = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "a", "mtu": 9000, "socketPath": "/s", "pciID": "0:1"}],
        "routes": [{"dst": "10.0.0.0/8", "mtu": 1, "advmss": 2, "priority": 0, "table": 254, "scope": 253}],
    }
    found = result.previous(Section({"prevResult": shape}), "1.1.0")
    assert found is not None
    whole = result.encode(found, "1.1.0")
    assert whole["interfaces"] == shape["interfaces"] and whole["routes"] == shape["routes"]
    older = result.encode(found, "1.0.0")
    assert older["interfaces"] == [{"name": "a"}] and older["routes"] == [{"dst": "10.0.0.0/8"}]


def test_after_a_plugin_that_made_another_interface_both_are_told() -> None:
    before = Result(
        interfaces=(Interface(name="lo", sandbox=NETNS), Interface(name="pw-pods", mac="02:00:00:00:00:01")),
        ips=(Address(address="127.0.0.1/8", interface=0),),
        routes=(Route(dst="10.3.0.0/16"),),
        dns=Dns(nameservers=("1.1.1.1",)),
    )
    result.refuse_collision(before, REQUEST, "1.0.0")
    own = result.of_endpoint(endpoint(), REQUEST, Dns())
    both = result.merge(before, own)
    assert [one.name for one in both.interfaces] == ["lo", "pw-pods", "pw0123456789ab", "eth0"]
    assert [ip.interface for ip in both.ips] == [0, 3, 3]
    assert both.routes == before.routes + own.routes
    assert both.dns == before.dns
    assert result.merge(before, made()).dns == DNS


SAME = Interface(name="eth0", sandbox="/another/way/to/it")
OTHER = Interface(name="net1", sandbox=NETNS)


@pytest.mark.parametrize(
    ("version", "before", "why"),
    [
        ("1.0.0", Result(interfaces=(SAME,)), "eth0"),
        ("1.0.0", Result(ips=(Address(address="10.0.0.1/24"),)), "10.0.0.1/24"),
        (
            "1.0.0",
            Result(interfaces=(OTHER,), ips=(Address(address="10.0.0.1/24", interface=7),)),
            "10.0.0.1",
        ),
        ("1.0.0", Result(routes=(Route(dst="0.0.0.0/0"),)), "default route"),
        ("1.0.0", Result(routes=(Route(dst="::/0"),)), "default route"),
        ("0.2.0", Result(ips=(Address(address="10.0.0.1/24"),)), "no room"),
    ],
)
def test_what_is_contested_is_refused(version: str, before: Result, why: str) -> None:
    with pytest.raises(CniError, match=why) as caught:
        result.refuse_collision(before, REQUEST, version)
    assert caught.value.code == 7
    assert caught.value.what.startswith("prevResult: ")


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        ([], "prevResult"),
        ({"cniVersion": "9"}, "prevResult.cniVersion"),
        ({"interfaces": {}}, "prevResult.interfaces"),
        ({"interfaces": [{"name": 1}]}, "prevResult.interfaces[0].name"),
        ({"ips": [{}]}, "prevResult.ips[0].address"),
        ({"ips": [{"address": "10.0.0.1/8", "interface": "0"}]}, "prevResult.ips[0].interface"),
        ({"routes": [{"dst": 3}]}, "prevResult.routes[0].dst"),
        ({"dns": {"search": "x"}}, "prevResult.dns.search"),
        ({"cniVersion": "0.2.0", "ip4": {"ip": 4}}, "prevResult.ip4.ip"),
    ],
)
def test_a_wrong_prev_result_is_code_7_and_named(shape: Any, key: str) -> None:
    with pytest.raises(CniError) as caught:
        result.previous(Section({"prevResult": shape}), "1.1.0")
    assert caught.value.code == 7
    assert caught.value.what.startswith(f"{key}: ")


@pytest.mark.parametrize("body", [{}, {"prevResult": None}])
def test_no_prev_result(body: dict[str, Any]) -> None:
    assert result.previous(Section(body), "1.1.0") is None
