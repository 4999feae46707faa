"""Runs rows; to be started in namespaces of its own by ``python -m bench``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from bench import report, rows
from bench.measure import Row

LEAST = 10  # rounds


def main() -> int:
    """Measure the rows asked for (all by default); 0 unless one could not be measured."""
    asked = arguments()
    measured: list[Row] = []
    failed = 0
    for name in asked.row or rows.NAMES:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="pwb-") as directory:
                measured += rows.load(name)(asked.rounds, Path(directory))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception:
            failed += 1
            print(f"{name} could not be measured:", file=sys.stderr)
            traceback.print_exc()
    report.show(measured)
    report.keep(measured)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line: ``row`` and ``rounds``. Ends the process when it makes no sense."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Podway beside its alternatives.")
    parser.add_argument(
        "row", nargs="*", choices=[*rows.NAMES, []], help=", ".join(rows.NAMES), metavar="ROW"
    )
    parser.add_argument(
        "--rounds", type=int, default=20, help=f"rounds of each row, {LEAST} at least (default 20)"
    )
    parser.add_argument("--quick", action="store_true", help=f"{LEAST} rounds")
    found = parser.parse_args()
    if found.rounds < LEAST:
        parser.error(f"--rounds {found.rounds}: fewer than {LEAST} say nothing")
    found.rounds = LEAST if found.quick else found.rounds
    return found


if __name__ == "__main__":
    sys.exit(main())
