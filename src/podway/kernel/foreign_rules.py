"""Rules of others in nftables and iptables-legacy, listed and removed one by one. For what is taken over."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable

from podway.kernel import xtables
from podway.model.errors import Unavailable
from podway.model.gate import Where

_FLAGS = 1 << 2 | 1 << 3 | 1 << 11  # STATELESS, HANDLE, TERSE: nftables/libnftables.h


class _Context:
    """A context of libnftables of its own: its output has flags that the table's own hasn't."""

    def __enter__(self) -> _Context:
        self._library = ctypes.CDLL("libnftables.so.1")
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _FLAGS)
        return self

    def __exit__(self, *_: object) -> None:
        self._library.nft_ctx_free(self._context)

    def run(self, text: str) -> tuple[bool, str]:
        """(whether it worked, what it printed)."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, text.encode())
        printed = self._library.nft_ctx_get_output_buffer(self._context)
        said = self._library.nft_ctx_get_error_buffer(self._context)
        return not failed, (said if failed else printed).decode("utf-8", "replace")


def listing(tables: Iterable[tuple[str, str]]) -> str:
    """Those of (family, table) that are there, as ``nft -s -t -a`` prints them."""
    with _Context() as context:
        found = (context.run(f"list table {family} {table}") for family, table in tables)
        return "".join(printed for worked, printed in found if worked)


def legacy() -> dict[Where, str]:
    """The tables of iptables-legacy that are here, as ``iptables -S`` prints them.

    Without the command that made them, their rules are nobody's any more who could remove them."""
    found = [*xtables.tables("nat"), *xtables.tables("filter")]
    with contextlib.suppress(Unavailable):
        return {where: xtables.run(where, "-S") for where in found}
    return {}


def remove(commands: Iterable[str]) -> None:
    """All of the commands or none. Raises Unavailable with nft's words."""
    with _Context() as context:
        worked, said = context.run("\n".join(commands) + "\n")
    if not worked:
        raise Unavailable(f"nftables refused: {said.strip()}", "rules of the reference plugins", "try again")
