"""Direct is what is proved: on real segments, with real agents, a router that lies, and cables that move."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from segments import Segments, reaches

pytestmark = pytest.mark.kernel
Make = Callable[..., Segments]


@pytest.mark.parametrize("family", [4, 6])
def test_host_gw_on_one_segment_is_proved(make_segments: Make, family: int) -> None:
    """Both nodes prove each other, and packets go."""
    made = make_segments(transport="host-gw")
    a, b = made.node("a"), made.node("b")
    for node in (a, b):
        node.start()
    for node, peer in ((a, b), (b, a)):
        one = node.until(peer.name, "direct", "proved", family)
        assert one.dev == "up0" and one.mtu == 1500 and one.last_probe and one.probe_ms
        assert "dev up0" in node.route(peer, family)
    assert reaches(a, b, family)
