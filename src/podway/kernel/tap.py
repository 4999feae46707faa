"""Tap devices that stay without a program. Numbers from linux/if_tun.h."""

from __future__ import annotations

import fcntl
import os
import struct

from podway.model.links import TapOptions

SETIFF, SETPERSIST, SETOWNER, SETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE  # TUN*
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI = 0x2, 0x100, 0x1000
_REQUEST = struct.Struct("16sH22x")  # struct ifreq


def make(name: str, options: TapOptions) -> None:
    """Make one in the calling thread's namespace. Raises OSError."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = IFF_TAP | IFF_NO_PI | (IFF_MULTI_QUEUE if options.multi_queue else 0)
        fcntl.ioctl(fd, SETIFF, _REQUEST.pack(name.encode(), flags))
        for request, number in ((SETOWNER, options.owner), (SETGROUP, options.group)):
            if number is not None:
                fcntl.ioctl(fd, request, _signed(number))
        fcntl.ioctl(fd, SETPERSIST, 1)
    finally:
        os.close(fd)


def _signed(number: int) -> int:
    """The same 32 bits as Python's ioctl takes them."""
    return number - (1 << 32) if number >= 1 << 31 else number
