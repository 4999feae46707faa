"""Structured logs: for people on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time

import msgspec

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in STANDARD}


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, message, and the fields given by ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"
        line = {"time": stamp, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line | _fields(record), enc_hook=str).decode()


class Plain(logging.Formatter):
    """Time, level, message, then name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """See the class."""
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        pairs = "".join(f" {name}={value}" for name, value in _fields(record).items())
        text = f"{stamp} {record.levelname.lower():7} {record.getMessage()}{pairs}"
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(level: str) -> logging.Logger:
    """The agent's logger, on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Plain() if sys.stderr.isatty() else JsonLines())
    logger = logging.getLogger("podway")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    return logger
