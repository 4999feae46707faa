"""The reference plugin host-local's own directory, read and written as it does: the truth about who has what.

Each address is a file DIRECTORY/NAME/ADDRESS that holds CONTAINER, CR LF, IFNAME; ``last_reserved_ip.N`` the
last one of range set N; ``lock`` is locked with flock(2) by whoever looks or writes. So the two plugins may
take turns, and pods that one of them attached are the other's to free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from podway.ipam import hostlocal
from podway.ipam.hostlocal import Given, RangeSet
from podway.model.dropin import Piece
from podway.model.errors import Busy, Conflict

DIRECTORY = "/var/lib/cni/networks"
PATIENCE = 10.0  # seconds that another may hold the lock
_PAUSE = 0.002
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f:]*:[0-9a-f:.]*")  # not last_reserved_ip.0, not lock
# bytes of a reservation: a container ID comes in an environment variable, of up to 128 KiB
_USUAL, _LIMIT = 4096, 1 << 18
_LINE_BREAK = "\r\n"

Owner = tuple[str, str]  # container, interface; of an old reservation without interface ""


class HostLocal:
    """The reservations of one network. ``directory`` is dataDir; ``network`` a valid network name."""

    def __init__(self, directory: str, network: str) -> None:
        self.path = os.path.join(directory or DIRECTORY, network)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fd = self._open_lock()
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Busy("another plugin holds the lock", self.path, "find it by fuser") from None
                    time.sleep(_PAUSE)
            yield
        finally:
            os.close(fd)

    def _open_lock(self) -> int:
        path = os.path.join(self.path, "lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(self.path, mode=0o755, exist_ok=True)
            return os.open(path, flags, 0o600)

    def _reserved(self) -> dict[str, Owner]:
        """Address → whose it is."""
        found: dict[str, Owner] = {}
        for name in os.listdir(self.path):
            if _ADDRESS.fullmatch(name) and (owner := self._owner(name)) is not None:
                found[name] = owner
        return found

    def _read(self, name: str) -> str | None:
        """What a file holds; None without one."""
        try:
            fd = os.open(os.path.join(self.path, name), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            found = os.read(fd, _USUAL)
            if len(found) == _USUAL:
                found += os.read(fd, _LIMIT - _USUAL)
            return found.decode(errors="replace").strip()
        finally:
            os.close(fd)

    def _owner(self, address: str) -> Owner | None:
        """Whose an address is; None when it is nobody's."""
        text = self._read(address)
        if text is None:
            return None
        container, _, ifname = text.partition("\n")
        return container.strip(), ifname.strip()

    def _last(self, number: int) -> str:
        text = self._read(f"last_reserved_ip.{number}") or ""
        return text if _ADDRESS.fullmatch(text) else ""

    def take(self, owner: Owner, sets: Sequence[RangeSet], wanted: Collection[str] = ()) -> list[Given]:
        """An address of each set, all or none. Raises InvalidInput, Conflict, Exhausted, OSError."""
        asked = hostlocal.assign(sets, wanted)
        with self._locked():
            reserved = self._reserved()
            mine = [address for address, holder in reserved.items() if holder == owner]
            if mine:
                what = (
                    f"{', '.join(mine)} is reserved for interface {owner[1]} of container {owner[0]} already"
                )
                raise Conflict(what, self.path, "send DEL first")
            taken = set(reserved)
            given: list[Given] = []
            try:
                for number, (ranges, address) in enumerate(zip(sets, asked, strict=True)):
                    given.append(hostlocal.choose(ranges, taken, self._last(number), address))
                    self._reserve(given[-1].address, owner)
                    taken.add(given[-1].address)
                    self._remember_last(number, given[-1].address)
            except BaseException:
                for one in given:
                    self._remove(one.address)
                raise
            return given

    def _reserve(self, address: str, owner: Owner) -> None:
        with self._writing(address, os.O_EXCL) as fd:
            os.write(fd, _LINE_BREAK.join(owner).encode())

    def _remember_last(self, number: int, address: str) -> None:
        """Written over what is there: a file that was emptied first goes to the disk as it is closed (ext4).

        It only says where the search begins, so what a crash leaves of two texts does no harm."""
        with self._writing(f"last_reserved_ip.{number}") as fd:
            os.ftruncate(fd, os.write(fd, address.encode()))

    @contextlib.contextmanager
    def _writing(self, name: str, flag: int = 0) -> Iterator[int]:
        fd = os.open(os.path.join(self.path, name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o644)
        try:
            yield fd
        finally:
            os.close(fd)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, name))

    def held_by(self, owner: Owner) -> list[str]:
        """Addresses of one interface; of a container, if it was reserved without an interface."""
        if not os.path.isdir(self.path):
            return []
        with self._locked():
            return [address for address, whose in self._reserved().items() if _is_of(whose, owner)]

    def held(self) -> dict[Owner, tuple[str, ...]]:
        """Owner → addresses, of all that is reserved."""
        if not os.path.isdir(self.path):
            return {}
        found: dict[Owner, tuple[str, ...]] = {}
        with self._locked():
            for address, owner in self._reserved().items():
                found[owner] = (*found.get(owner, ()), address)
        return found

    def free(self, owner: Owner) -> None:
        """Whatever an interface holds."""
        self._free(lambda whose: _is_of(whose, owner))

    def give_back(self, owner: Owner, addresses: Collection[str]) -> None:
        """These, as far as they still are the owner's."""
        if not os.path.isdir(self.path):
            return
        with self._locked():
            for address in addresses:
                if self._owner(address) == owner:
                    self._remove(address)

    def collect(self, valid: Collection[Owner], kept: Collection[Owner] = ()) -> None:
        """Whatever is held by none of ``valid`` and ``kept``; an old reservation stays with its container."""
        keep = {*valid, *kept}
        containers = {container for container, _ in keep}
        self._free(lambda whose: whose not in keep and (bool(whose[1]) or whose[0] not in containers))

    def _free(self, goes: Callable[[Owner], bool]) -> None:
        if not os.path.isdir(self.path):
            return
        with self._locked():
            for address, whose in self._reserved().items():
                if goes(whose):
                    self._remove(address)


def give_back(piece: Piece) -> None:
    """What a piece holds, if it still is its own."""
    if piece.reserved is not None:
        directory, network = os.path.split(piece.reserved.directory)
        owner = piece.container, piece.ifname
        HostLocal(directory, network).give_back(owner, piece.reserved.addresses)


def _is_of(whose: Owner, owner: Owner) -> bool:
    return whose == owner or whose == (owner[0], "")
