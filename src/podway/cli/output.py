"""How commands print what they found: tables, and JSON as everybody's other tools read it."""

from __future__ import annotations


def columns(titles: list[str], rows: list[list[str]], head: bool = True) -> str:
    """Rows under their titles, each column as wide as its widest cell."""
    filled = [row + [""] * (len(titles) - len(row)) for row in rows]
    lines = [titles, *filled] if head else filled
    widths = [max(len(row[i]) for row in [titles, *filled]) for i in range(len(titles))]
    shown = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in lines]
    return "\n".join(line.rstrip() for line in shown)


def as_json(value: object) -> str:
    """A value of the model's types as indented JSON."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
