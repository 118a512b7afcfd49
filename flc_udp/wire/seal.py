"""The envelope around every datagram: AES-256-GCM under a key of the sender's session.

    version 1 | key id 4 | session 16 | counter 8 | sealed payload … | tag 16

The numbers are lengths in bytes. A *session* is 16 random bytes that a process makes when it
starts, makes anew now and then (`waist/sessions`), and never stores. Numbers are big-endian, and
texts are UTF-8. To the byte:

    key     HKDF-SHA256 (RFC 5869) of the cluster key, 32 bytes long;
            salt: the session, info: "flc-udp 1 " and the cluster's name
    nonce   four bytes 00, and the counter, which begins at 1
    aad     the header, which is the first 29 bytes of the datagram
    key id  BLAKE2b of the cluster's name, 4 bytes long;
            key: the cluster key, person: "flc-udp key id"

The nonce is the counter, so no pair of key and nonce ever repeats. The header is authenticated
together with the payload.

One sealed datagram may go to many. One that is meant for a single node begins, inside of the seal,
with the byte 0xc1, which no payload begins with (msgpack never uses it), and the first four bytes
of that node's id. So it means nothing to another node that it is sent to again.

The keys of a running node may change (`flc keys`). The session stays, and its counter goes on. The
session has a different key under each cluster key, so it may be used under several of them. When
the node goes back to a key that it used before, the counter is higher, so no nonce repeats.

An *open* cluster uses the same code, with a key that is made of the cluster's name alone: BLAKE2b
of the name, 32 bytes long, person "flc-udp open". Such a key keeps clusters apart, and
authenticates nobody.
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
SESSION_AT = KEY_ID_AT + KEY_ID_BYTES
COUNTER_AT = SESSION_AT + SESSION_BYTES
HEADER_BYTES = COUNTER_AT + COUNTER_BYTES
assert HEADER_BYTES + TAG_BYTES == SEAL_BYTES

FOR_ONE = 0xC1
"""A payload for a single node begins with this byte."""

RECEIVER_BYTES = 4
"""So many bytes of a node's id stand for it as the receiver."""

FOR_ONE_BYTES = 1 + RECEIVER_BYTES
"""A datagram for a single node is longer by this much."""

OPENED_MAX = 1_024
"""A seal remembers the keys of this many sessions that `Seal.open` was given."""

DISTINCT_BYTES_LEAST = 8
"""A key with fewer different bytes was typed or is a placeholder: a random one has about 30."""

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
    if len(set(key)) < DISTINCT_BYTES_LEAST:
        least = DISTINCT_BYTES_LEAST
        raise FlcError(f"{where}: a weak key, with fewer than {least} different bytes", KEYGEN_HINT)
    return key


def make_key() -> str:
    """Make a new key, as `flc keygen` prints it."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


class Opened(NamedTuple):
    """What was in a datagram, and what its header says."""

    payload: bytes
    receiver: bytes
    """The first bytes of the id of the node that it is for; empty if it is for all who read it."""
    key_id: bytes
    session: bytes
    counter: int


def receiver_of(node: bytes) -> bytes:
    """Give what stands for a node as the receiver of a datagram."""
    return node[:RECEIVER_BYTES]


def check_envelope(datagram: bytes) -> None:
    """Check the length and the version of a datagram; raises Malformed."""
    if not SEAL_BYTES < len(datagram) <= DATAGRAM_BYTES_MAX:
        raise Malformed(Drop.DATAGRAM_SIZE, len(datagram))
    if datagram[0] != WIRE_VERSION:
        raise Malformed(Drop.WIRE_VERSION_UNKNOWN, 0)


def unseal(cipher: AESGCM, header: bytes, datagram: bytes) -> bytes:
    """Open a datagram of a session whose cipher this is; raises Malformed if its seal is broken.

    Nobody can tell which byte was changed, so the error names the first one that is sealed.
    """
    try:
        return cipher.decrypt(_NONCE_HEAD + header[COUNTER_AT:], datagram[HEADER_BYTES:], header)
    except InvalidTag:
        raise Malformed(Drop.SEAL_BROKEN, HEADER_BYTES) from None


def opened_of(cipher: AESGCM, datagram: bytes) -> Opened:
    """Open a datagram, as `unseal` does, and tell what its header says."""
    header, receiver = datagram[:HEADER_BYTES], b""
    payload = unseal(cipher, header, datagram)
    if payload[0] == FOR_ONE:
        receiver, payload = payload[1:FOR_ONE_BYTES], payload[FOR_ONE_BYTES:]
    key_id, session = header[KEY_ID_AT:SESSION_AT], header[SESSION_AT:COUNTER_AT]
    counter = int.from_bytes(header[COUNTER_AT:], "big")
    return Opened(payload, receiver, key_id, session, counter)


class Seal:
    """Seals the datagrams of this process. `session` is 16 random bytes."""

    def __init__(self, ring: Keyring, session: bytes) -> None:
        self._opened: OrderedDict[bytes, AESGCM] = OrderedDict()
        self.session, self.counter = session, 0
        self.rekey(ring)

    def renew(self, session: bytes) -> None:
        """Go on in another session."""
        assert len(session) == SESSION_BYTES
        self.session, self.counter = session, 0
        self.rekey(self.ring)

    def rekey(self, ring: Keyring) -> None:
        """Use this ring from now on: datagrams under any other key are refused.

        The counter goes on. Under a key that was used before, no nonce therefore repeats.
        """
        seals = ring.keys[0]
        self.ring = ring
        self._own = _cipher(seals, self.session, ring.cluster)
        self._head = bytes((WIRE_VERSION,)) + seals.id + self.session
        self.keys = {key.id: key for key in ring.keys}
        self._opened.clear()

    @property
    def key_id(self) -> bytes:
        """The id of the key that seals."""
        return self.ring.keys[0].id

    def close(self, payload: bytes, receiver: bytes = b"") -> bytes:
        """Seal one payload, for one `receiver` (`receiver_of`) or for all who read it.

        The datagram is longer by SEAL_BYTES, and for one receiver by FOR_ONE_BYTES more.
        """
        self.counter += 1
        counter = self.counter.to_bytes(COUNTER_BYTES, "big")
        header = self._head + counter
        if receiver:
            payload = _FOR_ONE_HEAD + receiver + payload
        return header + self._own.encrypt(_NONCE_HEAD + counter, payload, header)

    def cipher_of(self, key_id: bytes, session: bytes) -> AESGCM:
        """Derive the cipher of a session; raises Malformed if the key is not in the ring."""
        key = self.keys.get(key_id)
        if key is None:
            raise Malformed(Drop.KEY_UNKNOWN, KEY_ID_AT)
        return _cipher(key, session, self.ring.cluster)

    def open(self, datagram: bytes) -> Opened:
        """Open a datagram of anybody who holds a key of the ring, without any proof; for tools.

        Raises Malformed, which counts its byte from the first of the datagram.
        """
        check_envelope(datagram)
        who = datagram[KEY_ID_AT:COUNTER_AT]
        cipher = self._opened.get(who) or self.cipher_of(who[:KEY_ID_BYTES], who[KEY_ID_BYTES:])
        opened = opened_of(cipher, datagram)
        self._opened[who] = cipher
        if len(self._opened) > OPENED_MAX:
            self._opened.popitem(last=False)
        return opened


_NONCE_HEAD = bytes(NONCE_BYTES - COUNTER_BYTES)
_FOR_ONE_HEAD = bytes((FOR_ONE,))


def _cipher(key: Key, session: bytes, cluster: str) -> AESGCM:
    info = b"flc-udp 1 " + cluster.encode()
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=session, info=info).derive(key.secret))
