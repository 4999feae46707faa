"""WireGuard devices in one network namespace: looked at, and set.

A private key comes from ``keys`` just before it is sent, by the public key that names it; none is kept here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from podway.kernel.netlink import wireguard as codec
from podway.kernel.netlink.socket import NetlinkSocket
from podway.model.objects import Actual, AnyObject, Op, OpResult
from podway.model.wireguard import WgAllowed, WgDevice, WgPeer

NETLINK_GENERIC = 16  # linux/netlink.h
GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.EOPNOTSUPP})


class Wireguard:
    """A socket in the calling thread's namespace, opened when it is needed. ``index`` finds a link's ifindex
    (raises OSError ENODEV). ``keys``: public key → private key, 32 bytes."""

    def __init__(self, index: Callable[[str], int]) -> None:
        self._index = index
        self._socket: NetlinkSocket | None = None
        self._family = 0
        self.keys: Mapping[str, bytes] = {}

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()

    def _open(self) -> NetlinkSocket:
        """Raises OSError EOPNOTSUPP where the kernel has no WireGuard."""
        if self._socket is None:
            self._socket = NetlinkSocket(NETLINK_GENERIC)
        if not self._family:
            answer = self._socket.ask(codec.encode_family())
            if answer is None:
                raise OSError(errno.EOPNOTSUPP, "the kernel has no WireGuard: modprobe wireguard")
            self._family = codec.decode_family(answer.payload)
        return self._socket

    def look(self, links: Iterable[str]) -> list[codec.Device]:
        """What these devices hold; one that went since it was seen is left out."""
        found: list[codec.Device] = []
        for name in links:
            try:
                asking = self._open()
                answers = asking.dump(codec.encode_dump(self._family, self._index(name)))
            except OSError as error:
                if error.errno not in GONE:
                    raise
                continue
            device = codec.decode(message.payload for message in answers)
            if device is not None:
                found.append(device)
        return found

    def observe(self, links: Iterable[str]) -> Actual:
        """The same as objects."""
        objects: list[AnyObject] = []
        for device in self.look(links):
            objects += (device.device, *device.peers, *device.allowed)
        return {one.key: one for one in objects}

    def apply(self, ops: Sequence[Op]) -> list[OpResult]:
        """Carry out in order; one result per operation. Deleting what is gone succeeds."""
        results: list[OpResult | None] = [None] * len(ops)
        requests: list[tuple[int, bytes]] = []
        for number, op in enumerate(ops):
            try:
                self._open()
                requests.append((number, self._encode(op)))
            except OSError as error:
                results[number] = _failure(op, error.errno or errno.EINVAL, str(error.strerror))
        failed = self._open().batch([request for _, request in requests]) if requests else {}
        for position, (code, words) in failed.items():
            number = requests[position][0]
            results[number] = _failure(ops[number], code, words)
        return [done or OpResult(op) for op, done in zip(ops, results, strict=True)]

    def _encode(self, op: Op) -> bytes:
        subject = op.want if op.want is not None else op.have
        assert isinstance(subject, WgDevice | WgPeer | WgAllowed)
        gone, at = op.want is None, (self._family, self._index(subject.link))
        if isinstance(subject, WgDevice):
            if gone:
                return codec.encode_device_delete(*at)
            private = self.keys.get(subject.public_key)
            if private is None:
                raise OSError(errno.ENOKEY, "its private key is not in the state directory")
            return codec.encode_device(*at, private, subject.port)
        if isinstance(subject, WgPeer):
            return (codec.encode_peer_delete if gone else codec.encode_peer)(*at, subject)
        if gone:
            return codec.encode_allowed_delete(*at, subject, os.urandom(32))
        return codec.encode_allowed(*at, subject)


def _failure(op: Op, code: int, words: str) -> OpResult:
    return OpResult(op) if op.want is None and code in GONE else OpResult(op, code, words)
