"""Failures as the CNI contract wants them: a number, a sentence, details.

| failure | code | why |
|---|---|---|
| unsupported cniVersion | 1 | the contract's own |
| CNI_* missing or illegal | 4 | |
| OSError | 5 | the kernel or a file refused |
| stdin isn't a JSON object | 6 | |
| InvalidInput | 7 | the configuration must change before a retry can help |
| the pod's namespace can't be used | 8 | not 3, which tells the runtime that no DEL is needed |
| Unavailable | 11 | "try again later" |
| Exhausted | 11 | any DEL, or the end of a cool-down, lets the same request succeed |
| whatever STATUS finds | 50 | but for an unsupported cniVersion |
| unexpected | 100 | a defect of Podway; the traceback goes to the log |
| Conflict | 101 | something stands in the way and won't go by waiting |
"""

from __future__ import annotations

from podway.model.errors import Conflict, Exhausted, InvalidInput, PodwayError, Unavailable

VERSION = 1
ENVIRONMENT = 4
IO = 5
DECODE = 6
CONFIGURATION = 7
NAMESPACE = 8
LATER = 11
NOT_READY = 50
INTERNAL = 100
CONFLICT = 101


class CniError(PodwayError):
    """A failure that the contract has a code of its own for."""

    def __init__(self, code: int, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.code = code


def wrong(key: str, what: str, fix: str = "") -> CniError:
    """Code 7 for a key of the configuration, named by its path ("runtimeConfig.mac")."""
    return CniError(CONFIGURATION, f"{key}: {what}", fix=fix)


def code_of(error: BaseException) -> int:
    """The contract's number for an exception (the table above)."""
    if isinstance(error, CniError):
        return error.code
    for kind, code in (
        (InvalidInput, CONFIGURATION),
        (Conflict, CONFLICT),
        (Unavailable, LATER),
        (Exhausted, LATER),
        (OSError, IO),
    ):
        if isinstance(error, kind):
            return code
    return INTERNAL


def describe(error: BaseException) -> tuple[int, str, str]:
    """(code, msg, details) of an exception. One of unknown cause is logged with its traceback."""
    code = code_of(error)
    if isinstance(error, PodwayError):
        return code, error.what, "; ".join(part for part in (error.where, error.fix) if part)
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return code, reason, str(error.filename or "")
    import logging  # 5 ms that a call without an agent should not pay

    logging.getLogger("podway.cni").error("a CNI call failed unexpectedly", exc_info=error)
    return code, f"internal error: {type(error).__name__}: {error}", "a defect of Podway: see the agent's log"
