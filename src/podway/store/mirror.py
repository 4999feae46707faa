"""A store kept at hand: what the agent reads never waits for a network, and what it writes hardly.

One thread owns the real store: it lists once, follows the watch, says that this node lives, and comes
back by itself after an outage, from where it had got to. ``Session`` is what the engine is given: reads
are answered from memory; while the store is out of reach everything is refused at once; a write is
waited for a moment, and goes on behind the caller's back when it takes longer (``Late``).

Memory holds the store as of one moment, and moves on only as the watch tells it. So a write of one's
own is done for its caller when the watch has told it: what is read then includes all that came before.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import contextlib
import logging
import os
import queue
import random
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from podway.model.documents import SPECS
from podway.model.errors import PodwayError
from podway.store import open_store
from podway.store.protocol import Compacted, NoStore, Record, Store, StoreUnavailable, Watch
from podway.store.retry import FAR, NEAR, Retry

MIRRORED = (*SPECS, "Alive")
WRITE = 0.25  # seconds that a caller waits for a write
BEAT = 10.0  # seconds between heartbeats, jittered
SHORT_LIVED = 5.0  # seconds; a watch that ends sooner is no better than none

_log = logging.getLogger("podway.store")

_T = TypeVar("_T")
_Command = tuple[Callable[[Store], Any], "concurrent.futures.Future[Any]"]


class Late(StoreUnavailable):
    """The store takes long over a write; its outcome will be seen in the objects."""


class Mirror:
    """Start it, give the engine ``session()``, and look again whenever ``fileno`` is readable."""

    def __init__(self, url: str, node: str) -> None:
        self._url = url
        self._node = node
        self._guard = threading.Lock()
        self._objects: dict[tuple[str, str], Record] = {}
        self._trouble: StoreUnavailable | None = StoreUnavailable("never listed")
        self._token = ""
        self.identity = ""
        self._leases = False
        self._retry = Retry()
        #: own writes that the watch has not told yet
        self._untold: dict[tuple[str, str], tuple[Record, concurrent.futures.Future[Record]]] = {}
        self._commands: queue.SimpleQueue[_Command] = queue.SimpleQueue()
        self._news: set[str] = set()
        self._changed = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._first = threading.Event()  # the first attempt is over, well or badly
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    # for the agent ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to list and follow."""
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Until the first attempt is over, well or badly, but no longer."""
        self._first.wait(seconds)

    def stop(self, patience: float = 1.0) -> None:
        """End; a call that hangs is left to the end of the process."""
        self._stopping = True
        os.eventfd_write(self._bell, 1)
        self._thread.join(patience)
        if not self._thread.is_alive():
            os.close(self._bell)
            os.close(self._changed)

    def fileno(self) -> int:
        """Readable when objects changed, or when the store came into or went out of reach."""
        return self._changed

    def drain(self) -> frozenset[str]:
        """Take the wake-ups: kinds of what changed; all of them when the store came or went."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._changed)
        with self._guard:
            news, self._news = frozenset(self._news), set()
        return news

    def _tell(self, kinds: Iterable[str]) -> None:
        with self._guard:
            self._news |= set(kinds)
        os.eventfd_write(self._changed, 1)

    def session(self) -> Session:
        """What the engine works with."""
        return Session(self)

    @property
    def alive(self) -> frozenset[str] | None:
        """Nodes whose agents said lately that they live; None: not known now, or the store keeps none."""
        with self._guard:
            if self._trouble is not None or not self._leases:
                return None
            return frozenset(name for kind, name in self._objects if kind == "Alive")

    # for sessions ----------------------------------------------------------------------------------

    def records(self, kinds: tuple[str, ...]) -> builtins.list[Record]:
        """All objects of these kinds, as of one moment. Raises StoreUnavailable."""
        with self._guard:
            self._refuse()
            found = [record for (kind, _), record in self._objects.items() if kind in kinds]
        return sorted(found, key=lambda record: (kinds.index(record.kind), record.name))

    def record(self, kind: str, name: str) -> Record | None:
        """One object, if it is known. Raises StoreUnavailable."""
        with self._guard:
            self._refuse()
            return self._objects.get((kind, name))

    def _refuse(self) -> None:
        if self._trouble is not None:
            raise type(self._trouble)(self._trouble.what, self._trouble.where, self._trouble.fix)

    def submit(self, work: Callable[[Store], _T]) -> concurrent.futures.Future[_T]:
        """Have the thread carry out ``work``. Raises StoreUnavailable.

        An object that it wrote and returns is given back when what is read here includes it."""
        with self._guard:
            self._refuse()
        future: concurrent.futures.Future[_T] = concurrent.futures.Future()
        future.set_running_or_notify_cancel()  # nobody takes it back
        self._commands.put((work, future))
        os.eventfd_write(self._bell, 1)
        return future

    # the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            limit = NEAR if self._url.startswith("sqlite:") else FAR
            try:
                with contextlib.closing(open_store(self._url)) as store:
                    self._use(store)
            except Compacted:
                self._token = ""
            except PodwayError as error:
                limit = NEAR if isinstance(error, NoStore) else limit
                self._out_of_reach(error)
            except Exception as error:  # a bug must not end the following of the store
                _log.exception("following the store failed")
                self._out_of_reach(StoreUnavailable(f"following the store failed: {error!r}"))
            self._retry = self._retry.failed()
            self._pause(self._retry.delay(limit, random.random()))
        self._fail_commands(StoreUnavailable("the agent is stopping"))

    def _use(self, store: Store) -> None:
        """Follow an open store until it fails."""
        while not self._stopping:
            if not self._token:
                self._list(store)
            with contextlib.closing(store.watch(MIRRORED, self._token)) as watch:
                began = time.monotonic()
                self._beat(store, anew=True)
                self._in_reach(store)
                try:
                    self._follow(store, watch)
                except StoreUnavailable as error:
                    # one member may be gone and the others there: go on from here at once
                    if time.monotonic() - began < SHORT_LIVED:
                        raise
                    _log.info("the watch ended, another is begun", extra={"why": str(error)})
                finally:
                    self._token = watch.token

    def _list(self, store: Store) -> None:
        records, token = store.list(*MIRRORED)
        with self._guard:
            self.identity = store.identity
            self._objects = {(record.kind, record.name): record for record in records}
        self._token = token
        self._tell_all()

    def _tell_all(self) -> None:
        """What was listed holds every write made before."""
        for record, future in self._untold.values():
            future.set_result(record)
        self._untold.clear()

    def _in_reach(self, store: Store) -> None:
        with self._guard:
            self._trouble, self._leases = None, store.leases
        self._retry = Retry()
        self._first.set()
        self._tell(MIRRORED)

    def _out_of_reach(self, error: PodwayError) -> None:
        trouble = error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error))
        with self._guard:
            # told once, and again when it is another trouble
            news = self._trouble is None or str(self._trouble) != str(trouble)
            self._trouble = trouble
        self._fail_commands(trouble)
        self._first.set()
        if news:
            _log.warning("the store is out of reach", extra={"why": str(trouble)})
            self._tell(MIRRORED)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            if select.select([self._bell], [], [], left)[0]:
                self._drain_bell()
                with self._guard:
                    trouble = self._trouble
                if trouble is not None:
                    self._fail_commands(trouble)

    def _drain_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)

    def _fail_commands(self, error: StoreUnavailable) -> None:
        waiting = [future for _, future in self._untold.values()]
        self._untold.clear()
        while not self._commands.empty():
            waiting.append(self._commands.get()[1])
        for future in waiting:
            future.set_exception(StoreUnavailable(error.what, error.where, error.fix))

    def _follow(self, store: Store, watch: Watch) -> None:
        """Until the watch fails (StoreUnavailable, Compacted) or the mirror stops."""
        due = time.monotonic() + BEAT * random.uniform(0.5, 1.0)
        while not self._stopping:
            wait = max(0.0, due - time.monotonic()) if store.leases else None
            ready, _, _ = select.select([watch.fileno(), self._bell], [], [], wait)
            if self._bell in ready:
                self._drain_bell()
                self._work(store)
            if watch.fileno() in ready:
                self._take(store, watch)
            if store.leases and time.monotonic() >= due:
                self._beat(store, anew=False)
                due = time.monotonic() + BEAT * random.uniform(0.8, 1.0)

    def _beat(self, store: Store, anew: bool) -> None:
        if store.leases:
            store.heartbeat(self._node, anew)

    def _take(self, store: Store, watch: Watch) -> None:
        events = watch.read()
        news: set[str] = set()
        with self._guard:
            for event in events:
                key = (event.record.kind, event.record.name)
                if event.deleted or self._objects.get(key) != event.record:
                    news.add(event.record.kind)
                if event.deleted:
                    self._objects.pop(key, None)
                else:
                    self._objects[key] = event.record
        for event in events:
            key = (event.record.kind, event.record.name)
            if key in self._untold:
                record, future = self._untold.pop(key)
                future.set_result(record)
            if event.deleted and key == ("Alive", self._node):
                self._beat(store, anew=True)
        if news:
            self._tell(news)

    def _work(self, store: Store) -> None:
        """Carry out what was submitted; a store that went away in it fails the watch too."""
        while not self._commands.empty():
            work, future = self._commands.get()
            try:
                result = work(store)
            except StoreUnavailable as error:
                future.set_exception(error)
                raise
            except BaseException as error:
                future.set_exception(error)
                continue
            if not isinstance(result, Record) or self._is_told(result):
                future.set_result(result)
            else:
                before = self._untold.pop((result.kind, result.name), None)
                if before is not None:
                    before[1].set_result(before[0])
                self._untold[result.kind, result.name] = (result, future)

    def _is_told(self, record: Record) -> bool:
        with self._guard:
            return self._objects.get((record.kind, record.name)) == record


class Session:
    """See ``protocol.Objects``. ``hindrance``: the unfinished write for which ``Late`` was raised last."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._late: concurrent.futures.Future[Any] | None = None
        self.hindrance: concurrent.futures.Future[Any] | None = None

    @property
    def identity(self) -> str:
        """See the protocol."""
        return self._mirror.identity

    def get(self, kind: str, name: str) -> Record:
        """See the protocol."""
        found = self._mirror.record(kind, name)
        return found if found is not None else self._wait(lambda store: store.get(kind, name))

    def list(self, *kinds: str) -> tuple[builtins.list[Record], str]:
        """See the protocol; the token is of no use, the mirror follows by itself."""
        return self._mirror.records(kinds), ""

    def create(self, record: Record) -> Record:
        """See the protocol. Raises Late too."""
        return self._wait(lambda store: store.create(record))

    def update_status(self, record: Record) -> Record:
        """See the protocol. Raises Late too."""
        return self._wait(lambda store: store.update_status(record))

    def delete(self, kind: str, name: str, version: str | None = None) -> None:
        """See the protocol. Raises Late too. What is read has the object until the watch has told."""
        self._wait(lambda store: store.delete(kind, name, version))

    def _wait(self, work: Callable[[Store], _T]) -> _T:
        if self._late is None or self._late.done():
            future: concurrent.futures.Future[_T] = self._mirror.submit(work)
            done, _ = concurrent.futures.wait([future], WRITE)
            if done:
                return future.result()
            self._late = future
        self.hindrance = self._late
        raise Late("the store takes long over a write", fix="it is waited for, and tried again")

    def close(self) -> None:
        """The mirror lives on: it is the agent's."""
