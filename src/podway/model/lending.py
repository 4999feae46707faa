"""What nodes lend each other once a pool is used up: single addresses of their blocks. See docs/borrowing.md.

A block's owner names in its status a few addresses that it gives to no pod of its own (``offers``). Another
node takes one by creating the Borrow of that name; the address is the borrower's until the Borrow is gone.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from podway.model.spec import Spec


class BorrowSpec(Spec, frozen=True, kw_only=True):
    """Who has borrowed an address, and for which network."""

    network: Annotated[str, Meta(description="Whose pool the address is of.")]
    node: Annotated[str, Meta(description="Whose pod has it.")]


class Borrow(msgspec.Struct, frozen=True, kw_only=True):
    """A borrowed address; it is its name in the store."""

    address: str
    spec: BorrowSpec


class BlockStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a block's owner says of it: the addresses that others may borrow or have borrowed."""

    offers: tuple[str, ...] = ()


def block_status(status: bytes) -> BlockStatus:
    """What a stored status says; nothing where this version can't read it."""
    try:
        return msgspec.json.decode(status, type=BlockStatus)
    except msgspec.MsgspecError:
        return BlockStatus()
