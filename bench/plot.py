"""A small chart as a PNG: lines over two logarithmic axes. Pillow draws it, which is a tenth of what a
plotting library would bring along."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 80, 250, 50, 60
COLOURS = ("#1f5fa8", "#c0392b", "#2e8b57", "#8e44ad")
GRID, INK = "#dddddd", "#222222"

Line = Sequence[tuple[float, float]]


def save(path: Path, title: str, across: str, up: str, lines: Mapping[str, Line]) -> None:
    """Draw ``lines`` (name → points, all positive) to ``path``."""
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(20), ImageFont.load_default(15)
    points = [point for line in lines.values() for point in line]
    xs, ys = _decades([x for x, _ in points]), _decades([y for _, y in points])

    def at(x: float, y: float) -> tuple[float, float]:
        share_x = (math.log10(x) - xs[0]) / (xs[1] - xs[0])
        share_y = (math.log10(y) - ys[0]) / (ys[1] - ys[0])
        width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + share_x * width, HEIGHT - BOTTOM - share_y * height

    draw.text((LEFT, 14), title, fill=INK, font=font)
    for power in range(xs[0], xs[1] + 1):
        x, low = at(10**power, 10 ** ys[0])
        draw.line((x, TOP, x, low), fill=GRID)
        draw.text((x, low + 8), f"{10**power:g}", fill=INK, font=small, anchor="ma")
    for power in range(ys[0], ys[1] + 1):
        left, y = at(10 ** xs[0], 10**power)
        draw.line((left, y, WIDTH - RIGHT, y), fill=GRID)
        draw.text((left - 8, y), f"{10.0**power:g}", fill=INK, font=small, anchor="rm")
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 22), across, fill=INK, font=small, anchor="mm")
    draw.text((LEFT - 8, TOP - 14), up, fill=INK, font=small, anchor="rm")
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        places = [at(*point) for point in line]
        draw.line(places, fill=colour, width=3)
        for x, y in places:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
        x, y = places[-1]
        draw.text((x + 10, y), f"{name}: {_number(line[-1][1])} {up}", fill=colour, font=small, anchor="lm")
    image.save(path, optimize=True)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)
