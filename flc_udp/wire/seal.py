"""The envelope around every datagram: AES-256-GCM under a session's own key.

    version 1 | key id 4 | session 16 | counter 8 | sealed payload … | tag 16

A *session* is one process's run: 16 random bytes, made at start and never stored. Its key is
HKDF-SHA256 (RFC 5869) of the cluster key with the session as salt and the cluster's name as info,
and the nonce is the counter, so no (key, nonce) pair ever repeats. The header is authenticated
with the payload. Sealing names no receiver: one sealed datagram may go to many.

The ring of a running `Seal` may be replaced (`flc keys`). The session stays, and its counter goes
on: its key is another one under each cluster key, so one session under two of them is fine, and
back under the first no nonce of it comes again. A session's counters rise over all its keys.

*Open* mode is this same code under a key made of the cluster's name alone: it keeps clusters
apart and authenticates nobody.

Left for later, with its place: replay windows and cookies hang on (session, counter), which
`Opened` carries.
"""

from __future__ import annotations

import base64
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
from flc_udp.model.drops import Drop
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

NOT_OURS = frozenset((Drop.SEAL_BROKEN, Drop.KEY_UNKNOWN))
"""Why a datagram is refused that may be well, and of another key or cluster."""

KEYGEN_HINT = "write one with `flc keygen > FILE; chmod 600 FILE`"


OPEN = b""
"""Stands among secrets for the open key, which is none: it is made of the cluster's name."""


class Key(NamedTuple):
    """A cluster key, the id that stands for it in headers, and what it was made of."""

    secret: bytes
    id: bytes
    source: bytes
    """The secret as it was given: OPEN for the open key."""

    @property
    def name(self) -> str:
        """How people call it."""
        return self.id.hex() if self.source else "open"


class Keyring(NamedTuple):
    """The first key seals, any opens."""

    keys: tuple[Key, ...]
    cluster: str

    @property
    def is_open(self) -> bool:
        """Whether who has no key is heard: the open key is in it, whichever seals."""
        return any(key.source == OPEN for key in self.keys)

    @property
    def sources(self) -> tuple[bytes, ...]:
        """What `keyring` makes this of again."""
        return tuple(key.source for key in self.keys)


class Opened(NamedTuple):
    """What a valid envelope held, and the session and counter that it came under."""

    payload: bytes
    session: bytes
    counter: int


def keyring(secrets: tuple[bytes, ...], cluster: str) -> Keyring:
    """A ring of 32-byte secrets, or OPEN among them; of none, the open ring."""
    sources = dict.fromkeys(secrets or (OPEN,))
    return Keyring(tuple(_key(source, cluster) for source in sources), cluster)


def _key(source: bytes, cluster: str) -> Key:
    name = cluster.encode()
    secret = source or blake2b(name, digest_size=KEY_BYTES, person=b"flc-udp open").digest()
    # The name is part of the id: two clusters that share a key do not even try to open each other.
    person = b"flc-udp key id"
    found = blake2b(name, key=secret, digest_size=KEY_ID_BYTES, person=person).digest()
    return Key(secret, found, source)


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
            keys.append(read_key(text, f"{path}, line {number}"))
    if not keys:
        raise FlcError(f"key file {path} holds no key", KEYGEN_HINT)
    return tuple(keys)


def read_key(text: str, where: str) -> bytes:
    """The key of a line; raises FlcError, which says where and not what: a key is a secret."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:  # Of binascii, and of text that is not ASCII.
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
        self._session = session
        self._counter = 0
        self._sessions: OrderedDict[bytes, AESGCM] = OrderedDict()
        self.rekey(ring)

    def rekey(self, ring: Keyring) -> None:
        """Go on under this ring: what only others seal under is refused from here on.

        The counter goes on too. Back under a key of before, none of its nonces comes again.
        """
        seals = ring.keys[0]
        self._ring = ring
        self._own = _cipher(seals, self._session, ring.cluster)
        self._head = bytes((WIRE_VERSION,)) + seals.id + self._session
        self._keys = {key.id: key for key in ring.keys}
        gone = [who for who in self._sessions if who[:KEY_ID_BYTES] not in self._keys]
        for who in gone:
            del self._sessions[who]

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
            raise Malformed(Drop.DATAGRAM_SIZE, len(datagram))
        if datagram[0] != WIRE_VERSION:
            raise Malformed(Drop.WIRE_VERSION_UNKNOWN, 0)
        header = datagram[:HEADER_BYTES]
        cipher = self._cipher_of(header)
        counter = header[-COUNTER_BYTES:]
        try:
            payload = cipher.decrypt(
                counter.rjust(NONCE_BYTES, b"\0"), datagram[HEADER_BYTES:], header
            )
        except InvalidTag:
            raise Malformed(Drop.SEAL_BROKEN, HEADER_BYTES) from None
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
            raise Malformed(Drop.KEY_UNKNOWN, KEY_ID_AT)
        return _cipher(key, who[KEY_ID_BYTES:], self._ring.cluster)

    def _keep(self, who: bytes, cipher: AESGCM) -> None:
        self._sessions[who] = cipher
        self._sessions.move_to_end(who)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)


def _cipher(key: Key, session: bytes, cluster: str) -> AESGCM:
    info = b"flc-udp 1 " + cluster.encode()
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=session, info=info).derive(key.secret))
