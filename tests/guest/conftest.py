"""What tests of labs, of pods' traffic and of drop-in plugins use is beside them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / room) for room in ("lab", "traffic", "dropin")]
