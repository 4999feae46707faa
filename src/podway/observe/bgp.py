"""Whether this machine has the BIRD that its networks want, as a check of ``podway doctor``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

from podway.bird.process import BirdProcess
from podway.kernel.preflight import Check
from podway.model import stored
from podway.model.errors import PodwayError
from podway.store import open_store


def checks(url: str) -> Iterable[Check]:
    """None while nothing in the store at ``url`` is carried by BGP; the agent itself may be down."""
    try:
        with contextlib.closing(open_store(url)) as store:
            records, _ = store.list("Network")
    except PodwayError:
        return  # the store's own check says so
    networks = stored.snapshot(records)[0].networks.values()
    names = [network.name for network in networks if network.spec.transport == "bgp"]
    if not names:
        return
    try:
        version = asyncio.run(BirdProcess(Path()).version())
    except PodwayError as error:
        what = f"{error.what}: network {', '.join(sorted(names))} is carried by BGP, and learns nothing"
        yield Check("bird", "warning", what, error.fix)
        return
    yield Check("bird", "ok", f"version {version}")
