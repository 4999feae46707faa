"""Keys of WireGuard: which public one follows from a private one, and how they are kept."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

from podway.node.keys import Keys
from podway.node.x25519 import BASE, clamped, multiply

WAY = "wireguard:51820:4"


def test_vectors() -> None:
    """RFC 7748 sections 5.2 (one, and iterated) and 6.1."""
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert multiply(scalar, point).hex() == expected
    k = u = BASE
    for _ in range(1000):
        k, u = multiply(k, u), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
    other = bytes(range(32))
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    assert multiply(bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert multiply(other, multiply(bob)) == multiply(bob, multiply(other))


def test_kept_over_a_restart(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    assert keys.hold([WAY]) and not keys.hold([WAY])
    (file,) = (tmp_path / "wireguard").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = base64.b64decode(file.read_text())
    assert secret == clamped(secret) == keys.private[keys.public[WAY]]
    again = Keys(tmp_path)
    assert (again.public, again.private) == (keys.public, keys.private)


def test_another_way_has_another_key_and_takes_it_along(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    keys.hold([WAY])
    old = keys.public[WAY]
    keys.hold([WAY, "wireguard:51821:4"])
    assert len(set(keys.public.values())) == 2
    assert keys.drop(["wireguard:51821:4"]) and not keys.drop(["wireguard:51821:4"])
    assert list(Keys(tmp_path).public) == ["wireguard:51821:4"]
    keys.hold([WAY])
    assert keys.public[WAY] != old


def test_a_file_that_holds_no_key(tmp_path: Path) -> None:
    """Cut off, emptied, or something else: another key is made."""
    for text in ("", "AAAA", "no key at all", "ÿ"):
        (tmp_path / "wireguard").mkdir(exist_ok=True)
        (tmp_path / "wireguard" / f"{WAY}.key").write_text(text)
        keys = Keys(tmp_path)
        assert not keys.public
        assert keys.hold([WAY])
        assert Keys(tmp_path).public == keys.public
