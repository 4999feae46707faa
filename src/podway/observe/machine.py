"""What ``make setup`` sees to, as checks of ``podway doctor``: interpreter, commands, the CNI executable."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable

from podway.cni.install import is_compiled
from podway.kernel.preflight import Check

#: command → (Debian package, what can't be had without it)
COMMANDS = {
    "ip": ("iproute2", "labs"),
    "mount": ("mount", "labs"),
    "nsenter": ("util-linux", "labs"),
    "nft": ("nftables", "looking at the rules in a lab"),
}


def checks() -> Iterable[Check]:
    """None of them keeps the agent from working."""
    yield Check("python", "ok", platform.python_version())
    for command, (package, what) in COMMANDS.items():
        found = shutil.which(command)
        if found:
            yield Check(command, "ok", found)
        else:
            yield Check(command, "warning", f"not installed: no {what}", f"apt install {package}")
    if is_compiled():
        yield Check("podway-cni", "ok", "the static program")
    else:
        detail = "not compiled: the plugin is a Python script, 20 ms slower in each call"
        yield Check("podway-cni", "warning", detail, "apt install gcc libc6-dev, then make setup")
