"""Runs rows; to be started in namespaces of its own by ``python -m bench``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import traceback
from pathlib import Path

from bench import report, rows
from bench.measure import Row

LATEST = Path(__file__).parent / "latest.json"


def main() -> int:
    """Measure the rows asked for (all by default); 0 unless one could not be measured."""
    arguments = options().parse_args()
    rounds = 10 if arguments.quick else arguments.rounds
    measured: list[Row] = []
    failed = 0
    for name in arguments.row or rows.NAMES:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        try:
            with tempfile.TemporaryDirectory(prefix="pwb-") as directory:
                measured += rows.load(name)(rounds, Path(directory))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Exception:
            failed += 1
            print(f"{name} could not be measured:", file=sys.stderr)
            traceback.print_exc()
    report.show(measured)
    if not arguments.row:
        LATEST.write_text(json.dumps([row.document() for row in measured], indent=1) + "\n")
    return 1 if failed else 0


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Podway beside its alternatives.")
    parser.add_argument(
        "row", nargs="*", choices=[*rows.NAMES, []], help=", ".join(rows.NAMES), metavar="ROW"
    )
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each row, at least 10 (default 20)")
    parser.add_argument("--quick", action="store_true", help="ten rounds")
    return parser


if __name__ == "__main__":
    sys.exit(main())
