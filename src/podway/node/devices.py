"""What outlives the pods of drop-in plugins: bridges, and the node's own links into their VLANs, with the
gateways on them. What the ADD of a pod does to them is undone if that ADD fails after all.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from podway.delta.differ import diff, undone
from podway.kernel.facade import Kernel
from podway.model.dropin import BridgeDevice, Piece
from podway.model.errors import Conflict, InvalidInput
from podway.model.objects import Address, Op, Sysctl
from podway.node import wiring
from podway.node.database import Database, LedgerEntry
from podway.node.ledger import remember
from podway.node.pieces import enter
from podway.plan.planner import Planner


class Devices:
    """All methods run on the writer thread; ``keep`` and ``displace`` inside of ``whole``."""

    def __init__(self, database: Database, kernel: Kernel, planner: Planner, boot_id: str) -> None:
        self._database = database
        self._kernel = kernel
        self._planner = planner
        self._boot_id = boot_id
        self._undo = contextlib.ExitStack()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Where the body fails, devices are as they were before it.

        A crash leaves them as they are: they are known, and serve the next pod."""
        with contextlib.ExitStack() as self._undo:
            yield
            self._undo.pop_all()

    def keep(self, device: Piece) -> None:
        """Make one or change it. Raises Conflict, InvalidInput, Unavailable, OSError."""
        device = msgspec.structs.replace(device, boot_id=self._boot_id)
        self._undo.callback(self._record, device.id, self._planner.inputs.pieces.get(device.id))
        enter(self._planner, self._database, device, "ready")
        self._bring_about(device)

    def _record(self, name: str, before: Piece | None) -> None:
        if before is not None:
            enter(self._planner, self._database, before, "ready")
            return
        self._planner.update_piece(name, None)
        self._database.forget_pieces([name])

    def _bring_about(self, device: Piece) -> None:
        wanted = self._planner.fragment("piece", device.id)
        keys = [one.key for one in wanted]
        clashes = [key for key in keys if key in self._planner.conflicts]
        if clashes:
            raise Conflict(f"{wiring.title(clashes[0])} is wanted differently by a network of Podway's")
        paths = [one.path for one in wanted if isinstance(one, Sysctl)]
        kinds = {"link", "address", "sysctl"}
        actual = self._kernel.observe(kinds, paths, {*keys, *self._database.put_on_foreign()})
        difference = diff(self._planner.desired, actual, keys)
        for refusal in difference.refusals:
            raise Conflict(refusal.reason, wiring.title(refusal.key), "remove it, or name another bridge")
        self._undo.callback(self._put_back, difference.ops, self._database.ledger())
        remember(self._database, self._planner.desired, difference.ops)
        results = self._kernel.apply(difference.ops)
        filtering = isinstance(device.want, BridgeDevice) and device.want.vlan_filtering
        if filtering and any(one.errno == errno.EOPNOTSUPP for one in results):
            what, fix = "this kernel's bridges filter no VLANs", "use one with CONFIG_BRIDGE_VLAN_FILTERING"
            raise InvalidInput(f"vlan, vlanTrunk: {what}", f"bridge {device.ifname}", fix)
        wiring.raise_first(results, f"network {device.configuration}")

    def _put_back(self, ops: Sequence[Op], ledger: Mapping[str, LedgerEntry]) -> None:
        """``ledger``: as it was before ``ops``; it is right again when the kernel is."""
        self._kernel.apply([undone(op) for op in reversed(ops)])
        for path, entry in self._database.ledger().items():
            if path not in ledger:
                self._database.ledger_remove(path)
            elif ledger[path] != entry:
                self._database.ledger_put(path, *ledger[path])

    def displace(self, link: str, address: str) -> None:
        """Take an address off a link, as a configuration's forceAddress demands."""
        gone = Address(link=link, address=address, nodad=True)
        self._undo.callback(self._kernel.apply, [Op(gone, None)])
        wiring.raise_first(self._kernel.apply([Op(None, gone)]), f"bridge {link}")
