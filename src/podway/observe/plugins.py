"""The CNI executables that were installed here, as checks of ``podway doctor``: are they there still?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from podway.cni.install import replaced
from podway.cni.places import bin_dirs
from podway.kernel.preflight import Check
from podway.model.errors import Conflict


def checks() -> Iterator[Check]:
    """None where nothing was installed."""
    for directory in bin_dirs():
        try:
            count, others = replaced(Path(directory))
        except Conflict as error:
            yield Check("plugins", "warning", f"{error.what}: {error.where}", error.fix)
            continue
        if others:
            which = ", ".join(path.name for path in others)
            what = f"{which} in {directory} is not what was installed (an upgrade of its package?)"
            why = "it can't free what Podway attached"
            fix = "run podway cni install as before, with --replace"
            yield Check("plugins", "warning", f"{what}: {why}", fix)
        elif count:
            yield Check("plugins", "ok", f"{count} executables in {directory}")
