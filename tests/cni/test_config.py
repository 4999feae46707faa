"""What is read of a configuration, CNI_ARGS and the environment; every refusal names its key and code.

Both dialects of keys are taken (containerd's Go-style, podman's lowerCamel), null is absence, and
unknown keys are ignored.
"""

from __future__ import annotations

from typing import Any

import pytest
from cni_fakes import CONTAINER, NETNS, call, conf

from podway.cni import config
from podway.cni.errors import CniError
from podway.cni.protocol import Dns
from podway.cni.reader import Section
from podway.model.resources import Bandwidth, PodRoute, PortMap
from podway.node.requests import AttachRequest


def read(body: Any, command: str = "ADD", **env: str) -> AttachRequest:
    one = call(command, body, **env)
    loaded = config.load(config.decode(one.stdin), command)
    return config.attach_request(one, loaded, config.identity(one, namespace_required=True))


def runtime(**given: Any) -> AttachRequest:
    return read(conf(runtimeConfig=given))


def test_the_least_configuration_asks_for_nothing() -> None:
    assert read({"name": "pods"}) == AttachRequest(
        container=CONTAINER, ifname="eth0", network="pods", namespace=NETNS, configuration="pods"
    )


def test_network_names_a_podway_network_apart_from_the_configuration() -> None:
    assert read(conf(network="storage")).network == "storage"


@pytest.mark.parametrize("unknown", [{"x": 1}, {"runtimeConfig": {"deviceID": []}}, {"args": {"labels": 1}}])
def test_unknown_keys_are_ignored(unknown: dict[str, Any]) -> None:
    assert read(conf(**unknown)) == read(conf())


@pytest.mark.parametrize(
    "mapping",
    [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": None},
        {"hostport": 8080, "CONTAINERPORT": 80},
    ],
)
def test_port_mappings_in_every_dialect(mapping: dict[str, Any]) -> None:
    assert runtime(portMappings=[mapping, mapping]).ports == (PortMap(host_port=8080, container_port=80),)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "192.0.2.1"])
def test_a_port_that_goes_to_two_container_ports(host: str) -> None:
    """On all addresses and on one of them: nobody could say which is meant."""
    to_80 = {"hostPort": 8080, "containerPort": 80}
    with pytest.raises(CniError, match="goes to two container ports, 80 and 81"):
        runtime(portMappings=[to_80, {"hostPort": 8080, "containerPort": 81, "hostIP": host}])
    apart = [to_80 | {"hostIP": "192.0.2.1"}, {"hostPort": 8080, "containerPort": 81, "hostIP": "192.0.2.2"}]
    assert len(runtime(portMappings=apart).ports) == 2


def test_port_mapping_with_an_address() -> None:
    found = runtime(
        portMappings=[{"hostPort": 1, "containerPort": 2, "protocol": "udp", "hostIP": "FD00::1"}]
    )
    assert found.ports == (PortMap(host_port=1, container_port=2, protocol="udp", host_ip="fd00::1"),)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ingressRate": 1000, "ingressBurst": 500}, Bandwidth(ingress_rate=1000, ingress_burst=500)),
        ({"IngressRate": 1000}, Bandwidth(ingress_rate=1000, ingress_burst=4294967295)),
        (
            {"IngressRate": 0, "IngressBurst": 9, "EgressRate": 7, "EgressBurst": 8},
            Bandwidth(egress_rate=7, egress_burst=8),
        ),
        (None, Bandwidth()),
    ],
)
def test_bandwidth(given: Any, expected: Bandwidth) -> None:
    assert runtime(bandwidth=given).bandwidth == expected


def test_addresses_take_the_runtimes_over_the_files_over_the_arguments() -> None:
    args = {"cni": {"ips": ["10.0.0.2/24"]}}
    env = {"CNI_ARGS": "IP=10.0.0.3,FD00::3/64"}
    assert read(conf(), **env).ips == ("10.0.0.3", "fd00::3")
    assert read(conf(args=args), **env).ips == ("10.0.0.2",)
    assert read(conf(args=args, runtimeConfig={"ips": ["10.0.0.1"]}), **env).ips == ("10.0.0.1",)


def test_mac_takes_the_runtimes_over_the_files_over_the_arguments() -> None:
    args = {"cni": {"mac": "02:00:00:00:00:02"}}
    env = {"CNI_ARGS": "MAC=0200.0000.0003"}
    assert read(conf(), **env).mac == "02:00:00:00:00:03"
    assert read(conf(args=args), **env).mac == "02:00:00:00:00:02"
    assert read(conf(args=args, runtimeConfig={"mac": "0A-00-00-00-00-01"}), **env).mac == "0a:00:00:00:00:01"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"subnet": "10.1.0.0/24"}, ("10.1.0.1", "10.1.0.254")),
        ({"subnet": "10.1.0.0/31"}, ("10.1.0.0", "10.1.0.1")),
        ({"subnet": "10.1.0.9/32"}, ("10.1.0.9", "10.1.0.9")),
        ({"subnet": "fd00::/120"}, ("fd00::1", "fd00::ff")),
        (
            {
                "Subnet": "10.1.0.0/24",
                "rangeStart": "10.1.0.8",
                "rangeEnd": "10.1.0.9",
                "gateway": "10.1.0.1",
            },
            ("10.1.0.8", "10.1.0.9"),
        ),
    ],
)
def test_ip_ranges(given: dict[str, Any], expected: tuple[str, str]) -> None:
    assert runtime(ipRanges=[[given], [given]]).ranges == ((expected,), (expected,))


def test_routes_mtu_and_the_default_route() -> None:
    found = read(conf(mtu=1400, routes=[{"dst": "10.9.0.1/16", "gw": "10.0.0.1"}], defaultRoute=False))
    assert (found.mtu, found.default_route) == (1400, False)
    assert found.routes == (PodRoute(dst="10.9.0.0/16", gw="10.0.0.1"),)


def test_dns_of_the_runtime_overrides_list_by_list() -> None:
    body = conf(
        dns={"nameservers": ["10.0.0.1"], "domain": "example.test", "search": ["a"], "options": ["ndots:5"]},
        runtimeConfig={"dns": {"Servers": ["10.0.0.2"], "Searches": None, "Options": []}},
    )
    assert config.dns(Section(body)) == Dns(
        nameservers=("10.0.0.2",), domain="example.test", search=("a",), options=("ndots:5",)
    )


def test_kubernetes_arguments_in_any_order() -> None:
    env = {
        "CNI_ARGS": "K8S_POD_NAME=web-0;K8S_POD_UID=u;Custom=1;K8S_POD_NAMESPACE=shop;"
        "K8S_POD_INFRA_CONTAINER_ID=i;IgnoreUnknown=TRUE"
    }
    assert read(conf(), **env).pod == "shop/web-0"


WRONG_KEYS: list[tuple[dict[str, Any], str]] = [
    ({"name": 1}, "name"),
    ({"name": ""}, "name"),
    ({"name": "-pods"}, "name"),
    ({"name": "pods\n"}, "name"),
    ({"network": "a/b"}, "network"),
    ({"mtu": "1500"}, "mtu"),
    ({"mtu": 1.5}, "mtu"),
    ({"mtu": True}, "mtu"),
    ({"mtu": 20}, "mtu"),
    ({"mtu": 70000}, "mtu"),
    ({"defaultRoute": "yes"}, "defaultRoute"),
    ({"routes": {}}, "routes"),
    ({"routes": [{"dst": "x"}]}, "routes[0].dst"),
    ({"routes": [{"dst": "10.0.0.0/8", "gw": "::1"}]}, "routes[0].gw"),
    ({"args": []}, "args"),
    ({"args": {"cni": 3}}, "args.cni"),
    ({"args": {"cni": {"ips": ["x"]}}}, "args.cni.ips[0]"),
    ({"runtimeConfig": "x"}, "runtimeConfig"),
]
WRONG_CAPABILITIES: list[tuple[dict[str, Any], str]] = [
    ({"portMappings": {}}, "portMappings"),
    ({"portMappings": [1]}, "portMappings[0]"),
    ({"portMappings": [{"HostPort": "80", "containerPort": 1}]}, "portMappings[0].hostPort"),
    ({"portMappings": [{"hostPort": 0, "containerPort": 1}]}, "portMappings[0].hostPort"),
    ({"portMappings": [{"hostPort": 1, "containerPort": 65536}]}, "portMappings[0].containerPort"),
    ({"portMappings": [{"hostPort": 1, "containerPort": -1}]}, "portMappings[0].containerPort"),
    ({"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "x"}]}, "portMappings[0].protocol"),
    ({"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "h"}]}, "portMappings[0].hostIP"),
    (
        {"portMappings": [{"hostPort": 1, "containerPort": 1}, {"hostPort": 1, "containerPort": 2}]},
        "portMappings[1].hostPort",
    ),
    ({"bandwidth": []}, "bandwidth"),
    ({"bandwidth": {"ingressRate": -1}}, "bandwidth.ingressRate"),
    ({"bandwidth": {"egressBurst": "1M"}}, "bandwidth.egressBurst"),
    ({"ips": "10.0.0.1"}, "ips"),
    ({"ips": [10]}, "ips[0]"),
    ({"ips": ["fe80::1%eth0"]}, "ips[0]"),
    ({"mac": 5}, "mac"),
    ({"mac": "01:00:00:00:00:01"}, "mac"),
    ({"mac": "00:00:00:00:00:00"}, "mac"),
    ({"mac": "02:00:00"}, "mac"),
    ({"dns": {"servers": "x"}}, "dns.servers"),
    ({"aliases": [None]}, "aliases[0]"),
    ({"aliases": {"pods": ["a", 1]}}, "aliases.pods[1]"),
    ({"ipRanges": [{}]}, "ipRanges[0]"),
    ({"ipRanges": [[{"subnet": "x"}]]}, "ipRanges[0][0].subnet"),
    ({"ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "11.0.0.0"}]]}, "ipRanges[0][0].rangeStart"),
    (
        {"ipRanges": [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}]]},
        "rangeEnd",
    ),
    ({"io.kubernetes.cri.pod-annotations": {"a": 1}}, "io.kubernetes.cri.pod-annotations.a"),
]


@pytest.mark.parametrize(("more", "key"), WRONG_KEYS, ids=lambda value: str(value)[:40])
def test_a_wrong_key_is_code_7_and_named(more: dict[str, Any], key: str) -> None:
    with pytest.raises(CniError) as caught:
        read(conf(**more))
    assert caught.value.code == 7
    assert caught.value.what.startswith(f"{key}: ")


@pytest.mark.parametrize(("more", "key"), WRONG_CAPABILITIES, ids=lambda value: str(value)[:40])
def test_a_wrong_capability_is_code_7_and_named(more: dict[str, Any], key: str) -> None:
    with pytest.raises(CniError) as caught:
        one = call("ADD", conf(runtimeConfig=more))
        loaded = config.load(config.decode(one.stdin), "ADD")
        config.attach_request(one, loaded, config.identity(one, namespace_required=True))
        config.dns(loaded.section)
    assert caught.value.code == 7
    assert caught.value.what.startswith("runtimeConfig.") and key in caught.value.what


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_CONTAINERID", "a\n"),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_IFNAME", "ééééééé é"),
        ("CNI_IFNAME", "eth\udcff"),
        ("CNI_NETNS", ""),
        ("CNI_NETNS", "/run/\udcff"),
        ("CNI_ARGS", "Custom=1"),
        ("CNI_ARGS", "Custom=1;IgnoreUnknown=0"),
        ("CNI_ARGS", "Custom=1;IgnoreUnknown=maybe"),
        ("CNI_ARGS", "nonsense"),
        ("CNI_ARGS", "IP=x"),
        ("CNI_ARGS", "MAC=x"),
    ],
)
def test_a_wrong_variable_is_code_4_and_named(variable: str, value: str) -> None:
    with pytest.raises(CniError) as caught:
        read(conf(), **{variable: value})
    assert caught.value.code == 4
    assert caught.value.what.startswith(variable)


UNDECODABLE = [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff", b'{"name":"\xff"}', b'{"a":1}x', b"{}\0"]
UNDECODABLE += [b"[" * 100_000, b'{"a":' * 20_000 + b"1" + b"}" * 20_000, b"\xef\xbb\xbf{}"]


@pytest.mark.parametrize("stdin", UNDECODABLE, ids=lambda value: repr(value[:12]))
def test_undecodable_stdin_is_code_6(stdin: bytes) -> None:
    with pytest.raises(CniError) as caught:
        config.decode(stdin)
    assert caught.value.code == 6


@pytest.mark.parametrize("version", ["0.5.0", "2.0.0", "1.1", "x", "1.1.0 "])
def test_an_unsupported_version_is_code_1(version: str) -> None:
    with pytest.raises(CniError) as caught:
        config.load(Section(conf(cniVersion=version)), "ADD")
    assert caught.value.code == 1
    assert version in caught.value.what


@pytest.mark.parametrize(
    ("command", "version", "accepted"),
    [
        ("ADD", "0.1.0", True),
        ("CHECK", "0.3.1", False),
        ("CHECK", "0.4.0", True),
        ("GC", "1.0.0", False),
        ("GC", "1.1.0", True),
        ("STATUS", "1.0.0", False),
        ("STATUS", "1.1.0", True),
    ],
)
def test_commands_exist_since_a_version(command: str, version: str, accepted: bool) -> None:
    section = Section(conf(cniVersion=version))
    if accepted:
        assert config.load(section, command).version == version
        return
    with pytest.raises(CniError) as caught:
        config.load(section, command)
    assert caught.value.code == 1


def test_without_a_version_it_is_the_oldest() -> None:
    assert config.load(Section({"name": "pods"}), "ADD").version == "0.1.0"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}, {("a", "eth0")}),
        ({"cni.dev/valid-attachments": None}, set()),
        ({"cni.dev/attachments": [{"containerID": "a", "ifname": "eth0"}]}, {("a", "eth0")}),
        (
            {"cni.dev/attachments": [], "cni.dev/valid-attachments": [{"containerID": "b", "ifname": "x"}]},
            {("b", "x")},
        ),
    ],
)
def test_valid_attachments(more: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert config.valid_attachments(Section(conf(**more))) == expected


def test_missing_attachments_are_no_order_to_remove_everything() -> None:
    with pytest.raises(CniError) as caught:
        config.valid_attachments(Section(conf()))
    assert caught.value.code == 7


def test_of_keys_that_differ_in_case_the_last_holds_as_in_go() -> None:
    assert Section({"Name": "a", "name": "b"}).text("name") == "b"
