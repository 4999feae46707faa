"""The README's commands, as a new user copies them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(heading: str) -> list[str]:
    """The indented blocks of a section, in the order of the page, without their indentation."""
    section = (ROOT / "README.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"(?:^(?:    .*|)\n)+", section, re.MULTILINE)
    return [textwrap.dedent(one).strip("\n") + "\n" for one in found if one.strip()]
