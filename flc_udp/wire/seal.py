"""The envelope around every datagram: AES-256-GCM under a key of the sender's session.

    version 1 | key id 4 | session 16 | counter 8 | sealed payload … | tag 16

The numbers are lengths in bytes. A *session* is one run of a process: 16 random bytes that are made
when it starts and never stored. The session's key is HKDF-SHA256 (RFC 5869) of the cluster key,
with the session as salt and the cluster's name as info. The nonce is the counter, so no pair of key
and nonce ever repeats. The header is authenticated together with the payload. The envelope names no
receiver, so one sealed datagram may go to many.

The keys of a running node may change (`flc keys`). The session stays, and its counter goes on. The
session has a different key under each cluster key, so it may be used under several of them. When
the node goes back to a key that it used before, the counter is higher, so no nonce repeats.

An *open* cluster uses the same code, with a key that is made of the cluster's name alone. Such a
key keeps clusters apart, and authenticates nobody.

Replays are not recognized yet. Windows and cookies will depend on the session and the counter of a
datagram.
"""

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
from flc_udp.model.errors import Drop, FlcError, Malformed

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
"""The keys of this many sessions are kept. Beyond it, the key of the session that was silent for
the longest time is dropped, and derived again when that session is heard."""

NOT_OURS = frozenset((Drop.SEAL_BROKEN, Drop.KEY_UNKNOWN))
"""A datagram that is refused for one of these reasons may be good, under another key or cluster."""

KEYGEN_HINT = "write one with `flc keygen > FILE; chmod 600 FILE`"

OPEN = b""
"""Stands among secrets for the open key, which is made of the cluster's name and is no secret."""


class Key(NamedTuple):
    """A cluster key, and the id that stands for it in headers."""

    secret: bytes
    id: bytes
    source: bytes
    """What the key was made of: the secret as it was given, or OPEN."""

    @property
    def name(self) -> str:
        """The name that people use for the key."""
        return self.id.hex() if self.source else "open"


class Keyring(NamedTuple):
    """The keys of a node: the first one seals, and every one of them opens."""

    keys: tuple[Key, ...]
    cluster: str

    @property
    def is_open(self) -> bool:
        """Whether the open key is among the keys, so that programs without a key are heard."""
        return any(key.source == OPEN for key in self.keys)

    @property
    def sources(self) -> tuple[bytes, ...]:
        """What `keyring` would make the same ring of."""
        return tuple(key.source for key in self.keys)


def keyring(secrets: tuple[bytes, ...], cluster: str) -> Keyring:
    """Make a ring of secrets of 32 bytes, or OPEN. Without any secret it is the open ring."""
    sources = dict.fromkeys(secrets or (OPEN,))
    return Keyring(tuple(_key(source, cluster) for source in sources), cluster)


def _key(source: bytes, cluster: str) -> Key:
    name = cluster.encode()
    secret = source or blake2b(name, digest_size=KEY_BYTES, person=b"flc-udp open").digest()
    # The name is part of the id, so clusters that share a key do not try to open each other's
    # datagrams.
    person = b"flc-udp key id"
    found = blake2b(name, key=secret, digest_size=KEY_ID_BYTES, person=person).digest()
    return Key(secret, found, source)


def key_lines(path: Path, what: str, hint: str) -> list[tuple[str, str, str]]:
    """Read the lines of a file of keys: (text before any comment, whole line, where it is).

    Raises FlcError, which calls the file `what`.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise FlcError(f"cannot read {what} {path}: {reason}", hint) from error
    return [
        (line.partition("#")[0].strip(), line, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
    ]


def read_keys(path: Path) -> tuple[bytes, ...]:
    """Read a key file, which has one base64 key of 32 bytes a line; raises FlcError."""
    lines = key_lines(path, "key file", KEYGEN_HINT)
    keys = tuple(read_key(text, where) for text, _, where in lines if text)
    if not keys:
        raise FlcError(f"key file {path} holds no key", KEYGEN_HINT)
    return keys


def read_key(text: str, where: str) -> bytes:
    """Read the key of a line; raises FlcError without the text, because a key is a secret."""
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:  # From binascii, and for text that is not ASCII.
        key = b""
    if len(key) != KEY_BYTES:
        raise FlcError(f"{where}: not a base64 key of {KEY_BYTES} bytes", KEYGEN_HINT)
    return key


def make_key() -> str:
    """Make a new key, as `flc keygen` prints it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class Seal:
    """Seals the datagrams of this process and opens those of all. `session` is 16 random bytes."""

    def __init__(self, ring: Keyring, session: bytes) -> None:
        assert len(session) == SESSION_BYTES
        self._session = session
        self._counter = 0
        self._sessions: OrderedDict[bytes, AESGCM] = OrderedDict()
        self.rekey(ring)

    def rekey(self, ring: Keyring) -> None:
        """Use this ring from now on: datagrams under any other key are refused.

        The counter goes on. Under a key that was used before, no nonce therefore repeats.
        """
        seals = ring.keys[0]
        self._ring = ring
        self._own = _cipher(seals, self._session, ring.cluster)
        self._head = bytes((WIRE_VERSION,)) + seals.id + self._session
        self._keys = {key.id: key for key in ring.keys}
        gone = [who for who in self._sessions if who[:KEY_ID_BYTES] not in self._keys]
        for who in gone:
            del self._sessions[who]

    @property
    def key_id(self) -> bytes:
        """The id of the key that seals."""
        return self._ring.keys[0].id

    @property
    def sessions(self) -> int:
        """How many sessions of others are remembered with their keys."""
        return len(self._sessions)

    def close(self, payload: bytes) -> bytes:
        """Seal one payload; the datagram is longer by SEAL_BYTES."""
        self._counter += 1
        counter = self._counter.to_bytes(COUNTER_BYTES, "big")
        header = self._head + counter
        nonce = counter.rjust(NONCE_BYTES, b"\0")
        return header + self._own.encrypt(nonce, payload, header)

    def open(self, datagram: bytes) -> bytes:
        """Give the payload of a datagram; raises Malformed if it is damaged or of another cluster.

        The error counts its byte from the first of the datagram. If the seal is broken, nobody can
        tell which byte was changed, and the error names the first that is sealed.
        """
        if not SEAL_BYTES < len(datagram) <= DATAGRAM_BYTES_MAX:
            raise Malformed(Drop.DATAGRAM_SIZE, len(datagram))
        if datagram[0] != WIRE_VERSION:
            raise Malformed(Drop.WIRE_VERSION_UNKNOWN, 0)
        header = datagram[:HEADER_BYTES]
        who, counter = header[1:-COUNTER_BYTES], header[-COUNTER_BYTES:]
        cipher = self._sessions.get(who) or self._derived(who)
        nonce = counter.rjust(NONCE_BYTES, b"\0")
        try:
            payload = cipher.decrypt(nonce, datagram[HEADER_BYTES:], header)
        except InvalidTag:
            raise Malformed(Drop.SEAL_BROKEN, HEADER_BYTES) from None
        # The key is kept only now, so forged datagrams cannot push out the keys of real sessions.
        self._sessions[who] = cipher
        self._sessions.move_to_end(who)
        if len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return payload

    def _derived(self, who: bytes) -> AESGCM:
        key = self._keys.get(who[:KEY_ID_BYTES])
        if key is None:
            raise Malformed(Drop.KEY_UNKNOWN, KEY_ID_AT)
        return _cipher(key, who[KEY_ID_BYTES:], self._ring.cluster)


def _cipher(key: Key, session: bytes, cluster: str) -> AESGCM:
    info = b"flc-udp 1 " + cluster.encode()
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=session, info=info).derive(key.secret))
