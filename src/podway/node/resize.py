"""Pods follow their network's MTU, each in one visit to its namespace."""

from __future__ import annotations

import os
import time

import msgspec

from podway.kernel import namespaces
from podway.kernel.facade import Kernel
from podway.model.resources import Endpoint
from podway.node.database import Database, JournalEntry
from podway.plan import generation
from podway.plan.generation import Pods
from podway.plan.planner import Planner

BUDGET = 0.05  # seconds of one call: pods that are being attached wait for no more


class Resizer:
    """``run`` on the writer thread. Pods that can't be entered keep their MTU, and are told of."""

    def __init__(self, database: Database, kernel: Kernel, planner: Planner) -> None:
        self._database = database
        self._kernel = kernel
        self._planner = planner
        self.unreached: dict[str, str] = {}  # endpoint → why

    @property
    def left(self) -> list[str]:
        """Pods whose MTU stays as it is, a sentence for each."""
        endpoints = self._planner.inputs.endpoints
        return [
            f"pod {one.pod or name}: MTU stays {one.route_mtu or one.mtu} until it is attached anew: {why}"
            for name, why in sorted(self.unreached.items())
            if (one := endpoints.get(name)) is not None
        ]

    def pods(self) -> dict[str, Pods]:
        """What stands in the pods that can be entered, by network."""
        endpoints = self._planner.inputs.endpoints
        return generation.pods(one for name, one in endpoints.items() if name not in self.unreached)

    def run(self) -> tuple[int, bool]:
        """How many pods were changed, and whether others wait for the next call."""
        endpoints = self._planner.inputs.endpoints
        self.unreached = {name: why for name, why in self.unreached.items() if name in endpoints}
        began, changed = time.monotonic(), 0
        for endpoint in list(endpoints.values()):
            wanted = self._wanted(endpoint)
            if wanted == endpoint or endpoint.id in self.unreached:
                continue
            if time.monotonic() - began > BUDGET:
                return changed, True
            if self._resize(endpoint, wanted):
                changed += 1
        return changed, False

    def _wanted(self, endpoint: Endpoint) -> Endpoint:
        size = self._planner.inputs.sizes.get(endpoint.network)
        if endpoint.own_mtu or size is None:
            return endpoint
        routes = size.routes if size.routes < size.links else 0
        return msgspec.structs.replace(endpoint, mtu=size.links, route_mtu=routes)

    def _resize(self, have: Endpoint, want: Endpoint) -> bool:
        """The pod first, then the record of it: done twice after a crash between, which changes nothing."""
        fd = namespaces.open_same(have.namespace, have.namespace_id)
        if fd is None:
            self.unreached[have.id] = "its network namespace can't be opened"
            return False
        try:
            failed = self._kernel.resize_inside(fd, want.ifname, want.mtu, want.route_mtu, have.route_mtu)
        finally:
            os.close(fd)
        if failed:
            self.unreached[have.id] = failed
            return False
        self._database.change(want)
        self._planner.update_endpoint(want.id, want)
        text = f"MTU {have.mtu}, routes {have.route_mtu or have.mtu}"
        self._database.journal_add([JournalEntry(time.time(), "resized", want.id, text, 0.0, "")])
        return True
