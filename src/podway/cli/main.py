"""The ``podway`` command: groups are imported when they are called."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``podway`` script."""
    raise SystemExit("podway: nothing here yet")
