"""SipHash-2-4, and keys derived with it."""

from natmirror._ffi import lib


def siphash(key: bytes, data: bytes) -> int:
    """Return the 64-bit SipHash-2-4 of ``data`` under a key of 16 bytes (Aumasson, Bernstein: "SipHash: a fast
    short-input PRF", INDOCRYPT 2012). The balancing tables use it."""
    return lib.nm_siphash(key, data, len(data))


def subkey(key: bytes, purpose: bytes) -> bytes:
    """Derive a key of 16 bytes for one purpose."""
    return b"".join(siphash(key, purpose + half).to_bytes(8, "little") for half in (b"\0", b"\1"))
