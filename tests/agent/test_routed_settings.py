"""What the kernel keeps of a routed pod's link in sysctls: changed by hand, it comes back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fleet import fleet, until
from sabotage import is_ours

pytestmark = pytest.mark.kernel

NETWORK = {
    "attach": "routed",
    "transport": "host-gw",
    "pools": [{"cidr": "10.98.0.0/16"}, {"cidr": "fd00:98::/48"}],
}
#: below net/, of the pod's link: a value that it must not have
DAMAGE = {
    "ipv4/conf/{}/proxy_arp": "0",
    "ipv4/conf/{}/send_redirects": "1",
    "ipv4/conf/{}/route_localnet": "0",
    "ipv4/neigh/{}/proxy_delay": "80",
    "ipv6/conf/{}/accept_ra": "2",
}


def test_a_routed_links_settings_come_back(tmp_path: Path) -> None:
    """Most of them change without an event: they are swept at the heartbeat. The journal has each."""
    with fleet(tmp_path, "a", routed=NETWORK) as made:
        node = made.machines["a"]
        node.attach("pod", "routed")
        until(node.settled)
        (link,) = (one.name for one in node.observe().values() if is_ours(one) and one.kind == "veth")
        paths = {f"net/{path.format(link)}": value for path, value in DAMAGE.items()}
        before = {path: node.run(f"sysctl -n {path}") for path in paths}
        since = time.time()
        for path, value in paths.items():
            assert before[path].strip() != value, path
            node.run(f"sysctl -qw {path}={value}")
        until(lambda: {path: node.run(f"sysctl -n {path}") for path in paths} == before)
        wanted = {f"sysctl {path}" for path in paths}  # written down after they are back
        until(lambda: {one.key for one in node.journal(since) if one.kind == "repaired"} >= wanted)
        assert "problem" not in node.status()
