"""One call of a drop-in plugin, decoded as far as all plugins need it."""

from __future__ import annotations

import os
from typing import NamedTuple

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
    def living(self) -> int:
        """A descriptor of the pod's namespace, -1 when it is gone; the caller's own is no pod's."""
        fd = self.call.pod_fd
        return -1 if fd < 0 or os.path.sameopenfile(self.call.caller_fd, fd) else fd

    @property
    def namespace_id(self) -> str:
        """Which namespace the pod's is."""
        return namespaces.identity(self.call.pod_fd) if self.call.pod_fd >= 0 else ""
