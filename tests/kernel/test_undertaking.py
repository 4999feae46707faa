"""What may be done beside the writer: links and flows of pods that are gone, by two threads at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from podway.kernel.facade import DOOMED_GROUP, Kernel
from podway.model.objects import Link, Op

pytestmark = pytest.mark.kernel

PATIENCE = 60.0  # seconds for what takes a fraction of one


@pytest.fixture
def kernel(in_namespace: int) -> Iterator[Kernel]:
    opened = Kernel()
    yield opened
    opened.close()


def test_two_threads_take_turns_and_neither_hears_the_others_answer(kernel: Kernel) -> None:
    """The writer may need an address whose link is being deleted at that moment."""
    done: list[int] = []

    def bury() -> None:
        for _ in range(25):
            kernel.forget_udp([("", 53)])
            kernel.delete_doomed()
        done.append(1)

    doomed = [Link(name=f"ifb{n}", kind="ifb", group=DOOMED_GROUP) for n in range(4)]
    assert not [r.error for r in kernel.apply([Op(one, None) for one in doomed]) if r.errno]
    threads = [threading.Thread(target=bury, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(done) == 2
    assert all(kernel.rtnetlink.get_link(one.name) is None for one in doomed)
