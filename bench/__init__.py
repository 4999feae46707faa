"""Podway beside what you would pick instead, measured in one run, side by side, in turn.

``python -m bench [ROW…]`` makes namespaces of its own and runs itself inside them (``inside``): when
it ends, however it ends, they end. Read ``goals`` first, then ``measure``, then a file of ``rows``.
"""

import sys
from pathlib import Path

# RunPodSandbox is measured on the machine and the runtime of the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
