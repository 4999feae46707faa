"""Rules of others in nftables and iptables-legacy, listed and removed one by one. For what is taken over."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterable

from podway.kernel import xtables
from podway.kernel.netlink.socket import NetlinkSocket
from podway.kernel.nfnetlink import gatewire
from podway.model.errors import Unavailable
from podway.model.gate import Where

NETLINK_NETFILTER = 12
_FLAGS = 1 << 2 | 1 << 3 | 1 << 11  # STATELESS, HANDLE, TERSE: nftables/libnftables.h


class ForeignRules:
    """In the calling thread's network namespace, by a context of libnftables of its own: its output has flags
    that the table's own hasn't.

    Both sockets are opened at the first use and kept: closing one of nf_tables waits until the kernel is done
    with what was deleted before, for tens of milliseconds."""

    def __init__(self) -> None:
        self._context: ctypes.c_void_p | None = None
        self._socket: NetlinkSocket | None = None

    def close(self) -> None:
        """Let go of library and socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def listing(self, tables: Iterable[tuple[str, str]]) -> str:
        """Those of (family, table) that are there, as ``nft -s -t -a`` prints them."""
        if self._socket is None:
            self._socket = NetlinkSocket(NETLINK_NETFILTER)
        messages = self._socket.dump(gatewire.dump_tables())
        there = {gatewire.decode_table(message.payload) for message in messages}
        found = (
            self._run(f"list table {family} {table}") for family, table in tables if (family, table) in there
        )
        return "".join(printed for worked, printed in found if worked)

    def remove(self, commands: Iterable[str]) -> None:
        """All of the commands or none. Raises Unavailable with nft's words."""
        worked, said = self._run("\n".join(commands) + "\n")
        if not worked:
            raise Unavailable(
                f"nftables refused: {said.strip()}", "rules of the reference plugins", "try again"
            )

    def _run(self, text: str) -> tuple[bool, str]:
        """(whether it worked, what it printed)."""
        context = self._context or self._open()
        failed = self._library.nft_run_cmd_from_buffer(context, text.encode())
        printed = self._library.nft_ctx_get_output_buffer(context)
        said = self._library.nft_ctx_get_error_buffer(context)
        return not failed, (said if failed else printed).decode("utf-8", "replace")

    def _open(self) -> ctypes.c_void_p:
        self._library = ctypes.CDLL("libnftables.so.1")
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
        self._library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        self._context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_buffer_error(self._context)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_output_set_flags(self._context, _FLAGS)
        return self._context


def legacy() -> dict[Where, str]:
    """The tables of iptables-legacy that are here, as ``iptables -S`` prints them.

    Without the command that made them, their rules are nobody's any more who could remove them."""
    found = [*xtables.tables("nat"), *xtables.tables("filter")]
    with contextlib.suppress(Unavailable):
        return {where: xtables.run(where, "-S") for where in found}
    return {}
