"""docs/transports.md shows what labs really do: every block is what a lab prints now."""

from __future__ import annotations

import os

import pytest
import transports_page

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("preset", transports_page.COMMANDS)
def test_a_block_is_what_a_lab_shows(preset: str) -> None:
    """If it isn't: ``make docs`` writes the page's blocks anew."""
    blocks = {one[2]: one[0] for one in transports_page.BLOCK.finditer(transports_page.PAGE.read_text())}
    now = transports_page.block(preset, f"d{os.getpid()}")
    assert blocks[preset] == f"<!-- lab: {preset} -->\n{now}<!-- end -->"


def test_every_block_is_tested() -> None:
    found = [one[2] for one in transports_page.BLOCK.finditer(transports_page.PAGE.read_text())]
    assert sorted(found) == sorted(transports_page.COMMANDS)
