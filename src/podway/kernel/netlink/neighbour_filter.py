"""A socket filter (classic BPF) that lets neighbour events through for a few links only.

Every pod's traffic moves its neighbour entry from one state to the next, and each step is an event. What
Podway owns stands on tunnel devices alone, so the kernel is told to keep the rest to itself.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection

from podway.kernel.netlink.neighbour import DELNEIGH, FAILED, NEWNEIGH, REACHABLE, STALE

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, jt, jf, k
PROGRAM = struct.Struct("@HP")  # struct sock_fprog
# linux/bpf_common.h
LOAD_HALF, LOAD_WORD, JUMP_EQUAL, JUMP_SET, RETURN = 0x28, 0x20, 0x15, 0x45, 0x06
# nlmsghdr.nlmsg_type, ndmsg.ndm_ifindex, ndmsg.ndm_state
TYPE_AT, INDEX_AT, STATE_AT = 4, 16 + 4, 16 + 8
ALL, NOTHING = 0xFFFFFFFF, 0
MOST_LINKS = 64  # a jump reaches 255 instructions; beyond, everything is let through


def program(links: Collection[int]) -> list[tuple[int, int, int, int]]:
    """Instructions that drop neighbour messages of every ifindex that isn't in ``links``."""
    if len(links) > MOST_LINKS:
        return [(RETURN, 0, 0, ALL)]
    last = len(links)  # distance from the first comparison of an index to the refusal
    body = [
        (LOAD_HALF, 0, 0, TYPE_AT),
        (JUMP_EQUAL, 1, 0, socket.htons(NEWNEIGH)),
        (JUMP_EQUAL, 0, 2 + last, socket.htons(DELNEIGH)),
        (LOAD_WORD, 0, 0, INDEX_AT),
    ]
    body += [
        (JUMP_EQUAL, last - number, 0, socket.htonl(index)) for number, index in enumerate(sorted(links))
    ]
    return [*body, (RETURN, 0, 0, NOTHING), (RETURN, 0, 0, ALL)]


def settled(links: Collection[int]) -> list[tuple[int, int, int, int]]:
    """Instructions that let through only how a neighbour's resolution ended, on ``links`` (64 at most)."""
    indexes = sorted(links)[:MOST_LINKS]
    last = len(indexes)
    body = [
        (LOAD_HALF, 0, 0, TYPE_AT),
        (JUMP_EQUAL, 0, 1 + last, socket.htons(NEWNEIGH)),
        (LOAD_WORD, 0, 0, INDEX_AT),
    ]
    body += [(JUMP_EQUAL, last - number, 0, socket.htonl(index)) for number, index in enumerate(indexes)]
    return [
        *body,
        (RETURN, 0, 0, NOTHING),
        (LOAD_HALF, 0, 0, STATE_AT),
        (JUMP_SET, 1, 0, socket.htons(REACHABLE | STALE | FAILED)),
        (RETURN, 0, 0, NOTHING),
        (RETURN, 0, 0, ALL),
    ]


def attach(sock: socket.socket, code: list[tuple[int, int, int, int]]) -> None:
    """Put the filter on ``sock`` in place of an earlier one."""
    packed = b"".join(INSTRUCTION.pack(*one) for one in code)
    held = ctypes.create_string_buffer(packed)
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, PROGRAM.pack(len(code), ctypes.addressof(held)))
