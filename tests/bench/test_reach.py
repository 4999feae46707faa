"""The echo that the benches ask with is one that a kernel answers, and the last answer is the last."""

from __future__ import annotations

import subprocess
import time

import pytest
from bench.host import Host

from bench import reach
from podway.kernel import namespaces


class Here:
    """A host that needs no name."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def entered(self):  # type: ignore[no-untyped-def]
        return namespaces.entered(self.fd)


@pytest.mark.kernel
def test_every_namespace_is_heard(in_namespace: int) -> None:
    """Two sockets and an address that comes up later: the time is that of the later answer."""
    hosts: list[Host] = [Here(in_namespace), Here(in_namespace)]  # type: ignore[list-item]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with reach.sockets(hosts) as made:
        began = time.monotonic()
        assert began <= reach.last(made, "127.0.0.1") < began + 10
        with pytest.raises(RuntimeError, match=r"2 of 2 nodes never reached 192\.0\.2\.9"):
            reach.last(made, "192.0.2.9", patience=0.05)
        subprocess.run(["ip", "addr", "add", "192.0.2.9/32", "dev", "lo"], check=True)
        assert reach.last(made, "192.0.2.9") > began
