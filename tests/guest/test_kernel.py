"""What the guest is for: its kernel makes the links that many a machine's own doesn't."""

from __future__ import annotations

import subprocess

import pytest

pytestmark = pytest.mark.guest


@pytest.mark.parametrize("kind", ["ipip local 192.0.2.1", "ip6tnl local 2001:db8::1", "wireguard", "dummy"])
def test_links(in_namespace: int, kind: str) -> None:
    subprocess.run(["ip", "link", "add", "one", "type", *kind.split()], check=True)
