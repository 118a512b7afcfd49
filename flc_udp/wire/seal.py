"""The envelope around every datagram: AES-256-GCM under a session's own key.

    version 1 | key id 4 | session 16 | counter 8 | sealed payload … | tag 16

A *session* is one process's run: 16 random bytes, made at start and never stored. Its key is
HKDF-SHA256 (RFC 5869) of the cluster key with the session as salt and the cluster's name as info,
and the nonce is the counter, so no (key, nonce) pair ever repeats. The header is authenticated
with the payload. Sealing names no receiver: one sealed datagram may go to many.

*Open* mode is this same code under a key made of the cluster's name alone: it keeps clusters
apart and authenticates nobody.

Left for later, each with its place: replay windows and cookies hang on (session, counter), which
`Opened` carries; a live change of keys replaces the keyring of a running `Seal`.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections import OrderedDict
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from flc_udp.config import DATAGRAM_BYTES_MAX, SEAL_BYTES, WIRE_VERSION
from flc_udp.model.errors import FlcError, Malformed

KEY_BYTES = 32
KEY_ID_AT = 1
KEY_ID_BYTES = 4
SESSION_BYTES = 16
COUNTER_BYTES = 8
TAG_BYTES = 16
NONCE_BYTES = 12
HEADER_BYTES = 1 + KEY_ID_BYTES + SESSION_BYTES + COUNTER_BYTES
assert HEADER_BYTES + TAG_BYTES == SEAL_BYTES

SESSIONS_MAX = 16_384
"""Peers' derived keys kept; beyond it the least recently heard is derived again when heard."""

SEAL_BROKEN, KEY_UNKNOWN = "seal broken", "key or cluster unknown"

NOT_OURS = frozenset((SEAL_BROKEN, KEY_UNKNOWN))
"""Why a datagram is refused that may be well, and of another key or cluster."""

KEYGEN_HINT = "write one with `flc keygen > FILE; chmod 600 FILE`"


class Key(NamedTuple):
    """A cluster key and the id that stands for it in headers."""

    secret: bytes
    id: bytes


class Keyring(NamedTuple):
    """The first key seals, any opens. `is_open` when it was made of the cluster's name alone."""

    keys: tuple[Key, ...]
    cluster: str
    is_open: bool


class Opened(NamedTuple):
    """What a valid envelope held, and the session and counter that it came under."""

    payload: bytes
    session: bytes
    counter: int


def keyring(secrets: tuple[bytes, ...], cluster: str) -> Keyring:
    """A ring of 32-byte secrets; of none, the open ring of the cluster's name."""
    is_open = not secrets
    if is_open:
        secrets = (
            blake2b(cluster.encode(), digest_size=KEY_BYTES, person=b"flc-udp open").digest(),
        )
    # The name is part of the id: two clusters that share a key do not even try to open each other.
    person = b"flc-udp key id"
    keys = tuple(
        Key(s, blake2b(cluster.encode(), key=s, digest_size=KEY_ID_BYTES, person=person).digest())
        for s in secrets
    )
    return Keyring(keys, cluster, is_open)


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Keys of a key file: one base64 key of 32 bytes a line, `#` comments; raises FlcError."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise FlcError(f"cannot read key file {path}: {reason}", KEYGEN_HINT) from error
    keys = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if text:
            keys.append(_read_key(text, f"{path}, line {number}"))
    if not keys:
        raise FlcError(f"key file {path} holds no key", KEYGEN_HINT)
    return tuple(keys)


def _read_key(text: str, where: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise FlcError(f"{where}: not a base64 key of {KEY_BYTES} bytes", KEYGEN_HINT)
    return key


def make_key() -> str:
    """A new key as `flc keygen` prints it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class Seal:
    """Seals this process's datagrams and opens everybody's. `session` is 16 fresh random bytes."""

    def __init__(self, ring: Keyring, session: bytes) -> None:
        assert len(session) == SESSION_BYTES
        self._ring = ring
        self._session = session
        self._counter = 0
        self._own = _cipher(ring.keys[0], session, ring.cluster)
        self._head = bytes((WIRE_VERSION,)) + ring.keys[0].id + session
        self._keys = {key.id: key for key in ring.keys}
        self._sessions: OrderedDict[bytes, AESGCM] = OrderedDict()

    def close(self, payload: bytes) -> bytes:
        """Seal one payload; the datagram is SEAL_BYTES longer."""
        self._counter += 1
        counter = self._counter.to_bytes(COUNTER_BYTES, "big")
        header = self._head + counter
        nonce = counter.rjust(NONCE_BYTES, b"\0")
        return header + self._own.encrypt(nonce, payload, header)

    def open(self, datagram: bytes) -> Opened:
        """Open one datagram; raises Malformed where it is not of our cluster and whole.

        The error's byte counts from the datagram's first; of a broken seal, where what is sealed
        begins: which byte of it is another, nobody can tell.
        """
        if not SEAL_BYTES < len(datagram) <= DATAGRAM_BYTES_MAX:
            raise Malformed("datagram size", len(datagram))
        if datagram[0] != WIRE_VERSION:
            raise Malformed("wire version unknown", 0)
        header = datagram[:HEADER_BYTES]
        cipher = self._cipher_of(header)
        counter = header[-COUNTER_BYTES:]
        try:
            payload = cipher.decrypt(
                counter.rjust(NONCE_BYTES, b"\0"), datagram[HEADER_BYTES:], header
            )
        except InvalidTag:
            raise Malformed(SEAL_BROKEN, HEADER_BYTES) from None
        who = header[1:-COUNTER_BYTES]
        # Kept only now: datagrams that nobody sealed cannot push out the keys of those who did.
        self._keep(who, cipher)
        return Opened(payload, who[KEY_ID_BYTES:], int.from_bytes(counter, "big"))

    def _cipher_of(self, header: bytes) -> AESGCM:
        who = header[1:-COUNTER_BYTES]
        cipher = self._sessions.get(who)
        if cipher is not None:
            return cipher
        key = self._keys.get(who[:KEY_ID_BYTES])
        if key is None:
            raise Malformed(KEY_UNKNOWN, KEY_ID_AT)
        return _cipher(key, who[KEY_ID_BYTES:], self._ring.cluster)

    def _keep(self, who: bytes, cipher: AESGCM) -> None:
        self._sessions[who] = cipher
        self._sessions.move_to_end(who)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)


def _cipher(key: Key, session: bytes, cluster: str) -> AESGCM:
    info = b"flc-udp 1 " + cluster.encode()
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=session, info=info).derive(key.secret))
