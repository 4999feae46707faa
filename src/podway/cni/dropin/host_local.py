"""``host-local`` by itself, under another plugin: files only, as the reference plugin keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podway.cni import config
from podway.cni.dropin import ipam
from podway.cni.dropin.ask import Ask
from podway.cni.errors import wrong
from podway.cni.protocol import Result
from podway.cni.steps import Steps, Work

if TYPE_CHECKING:
    from podway.node.engine import NodeEngine


class HostLocalPlugin:
    """See ``frame.Plugin``."""

    def _source(self, ask: Ask) -> ipam.OwnHostLocal:
        if not ask.section.section("ipam").text("type"):
            raise wrong("ipam", "is missing; host-local is an IPAM plugin")
        return ipam.OwnHostLocal(ask)

    def add(self, ask: Ask) -> Steps[Result | None]:
        source = self._source(ask)

        def work(engine: NodeEngine) -> Result:
            return source.take(engine, Result())[0]

        found: Result = yield Work(work)
        return found

    def delete(self, ask: Ask) -> Steps[None]:
        yield Work(self._source(ask).free)

    def check(self, ask: Ask) -> Steps[None]:
        yield Work(self._source(ask).check)

    def collect(self, ask: Ask) -> Steps[None]:
        config.valid_attachments(ask.section)
        yield Work(self._source(ask).collect)

    def status(self, ask: Ask) -> Steps[None]:
        self._source(ask)
        yield from ()


PLUGIN = HostLocalPlugin()
