"""X25519 (RFC 7748): which public key follows from a private one.

Python's integers take time that depends on their values. That tells nobody anything here: it is done once for
each key, on the node that made it, at nobody's request.
"""

from __future__ import annotations

P = 2**255 - 19
A24 = 121665
BASE = (9).to_bytes(32, "little")


def clamped(secret: bytes) -> bytes:
    """32 random bytes as a private key (section 5, decodeScalar25519)."""
    return bytes((secret[0] & 248, *secret[1:31], secret[31] & 127 | 64))


def multiply(scalar: bytes, point: bytes = BASE) -> bytes:
    """Section 5: the Montgomery ladder. Of the base point the public key of a private key."""
    k = int.from_bytes(clamped(scalar), "little")
    x1 = int.from_bytes(point, "little") & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, x1, 1, 0
    for bit in range(254, -1, -1):
        one = k >> bit & 1
        if one != swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = one
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb = d * a % P, c * b % P
        aa, bb = a * a % P, b * b % P
        e = aa - bb
        x3, z3 = pow(da + cb, 2, P), x1 * pow(da - cb, 2, P) % P
        x2, z2 = aa * bb % P, e * (aa + A24 * e) % P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")
