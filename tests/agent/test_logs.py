"""What the agent logs: for people on a terminal, a JSON object a line elsewhere."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest

from podway.agent.logs import configure


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_fields_and_failures_are_told(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fields of ``extra``, an exception's traceback, nothing below the level."""
    monkeypatch.setattr(sys, "stderr", stream)
    log = configure("info")
    log.debug("too much")
    log.warning("kernel refused", extra={"key": "route 10.0.0.0/8", "why": "File exists"})
    try:
        raise OSError("gone")
    except OSError:
        log.error("pass failed", exc_info=True)
    text = stream.getvalue()
    assert "too much" not in text
    if stream.isatty():
        assert " warning kernel refused key=route 10.0.0.0/8 why=File exists\n" in text
        assert "error   pass failed\nTraceback" in text
        return
    first, second = (json.loads(line) for line in text.splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {
        "level": "warning",
        "message": "kernel refused",
        "key": "route 10.0.0.0/8",
        "why": "File exists",
    }
    assert second["message"] == "pass failed" and "OSError: gone" in second["exception"]


@pytest.fixture(autouse=True)
def logger_as_before() -> Iterator[None]:
    """Other tests' logging is their own business."""
    logger = logging.getLogger("podway")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers, logger.level = handlers, level
