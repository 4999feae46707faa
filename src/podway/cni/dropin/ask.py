"""One call of a drop-in plugin, decoded as far as all plugins need it."""

from __future__ import annotations

import os
from typing import NamedTuple

from podway.cni.answer import pod_namespace
from podway.cni.config import Conf
from podway.cni.protocol import Call, Identity, Result
from podway.cni.reader import Section
from podway.kernel import namespaces


class Ask(NamedTuple):
    """``who`` is None for GC and STATUS; ``before`` is prevResult, None where there is none."""

    call: Call
    conf: Conf
    who: Identity | None
    before: Result | None

    @property
    def section(self) -> Section:
        """The configuration."""
        return self.conf.section

    @property
    def me(self) -> Identity:
        """Whose interface it is about."""
        assert self.who is not None, "GC and STATUS are about no container"
        return self.who

    @property
    def own_too(self) -> bool:
        """Whether CNI_NETNS may name the caller's own namespace: in the words of libcni's skeleton 1.3."""
        return self.call.env.get("CNI_NETNS_OVERRIDE", "").upper() in ("TRUE", "1")

    def pod_namespace(self, never_own: bool = False) -> int:
        """A descriptor of the pod's namespace. Raises CniError 8.

        ``never_own``: for what the node would take for its own there."""
        return pod_namespace(self.call, self.own_too and not never_own)

    @property
    def living(self) -> int:
        """The same, -1 when it is gone; the caller's own is no pod's unless it may be meant."""
        fd = self.call.pod_fd
        own = fd >= 0 and not self.own_too and os.path.sameopenfile(self.call.caller_fd, fd)
        return -1 if own else fd

    @property
    def namespace_id(self) -> str:
        """Which namespace the pod's is."""
        return namespaces.identity(self.call.pod_fd) if self.call.pod_fd >= 0 else ""
