"""The ring of a node: how its keys are changed, and the file that keeps them in the data directory.

    # comment
    base64 of 32 bytes, or `open`      the first line seals, every line opens
    …
    # key file 5a0c…                   the mark of the key file when this was written

Rules. A change makes a new ring and leaves the old one as it was. The key that seals is never
removed, so a ring is never empty, and no order of changes takes a key from a node that has just
sealed under it. Errors name keys by their ids, because a key is a secret. A key file cannot contain
`open`, because a key file is there to close the cluster.
"""

import base64
import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.wire.seal import OPEN, Key, Keyring, key_lines, keyring, read_key

KEYS_MAX = 16
"""A ring has at most this many keys. A change of keys needs two. A ring that only ever grows is one
that nobody looks after."""

HEAD = "# The ring of this node: the first line seals, any opens. `flc keys` changes it.\n"
MARK = "# key file "
OPEN_LINE = "open"

KEY_NAME = re.compile(r"[0-9a-f]{8}|open")

RING_HINT = "a ring has a base64 key or `open` a line; without the file --key-file makes a new one"


class SavedRing(NamedTuple):
    """A ring as a data directory keeps it."""

    sources: tuple[bytes, ...]
    mark: str
    """The mark of the key file when the ring was saved; empty if there was no key file."""


def read_ring(path: Path) -> SavedRing:
    """Read the ring of a data directory; raises FlcError."""
    if path.exists() and not path.is_file():  # A pipe would be waited for.
        raise FlcError(f"the ring {path} is no plain file", RING_HINT)
    sources, mark = [], ""
    for text, line, where in key_lines(path, "the ring", RING_HINT):
        if line.startswith(MARK):
            mark = line.removeprefix(MARK).strip()
        elif text:
            sources.append(OPEN if text == OPEN_LINE else read_key(text, where))
    if not sources:
        raise FlcError(f"the ring {path} holds no key", RING_HINT)
    return SavedRing(tuple(sources), mark)


def ring_text(sources: Sequence[bytes], mark: str) -> str:
    """Write the text that `read_ring` reads."""
    lines = (base64.b64encode(source).decode() if source else OPEN_LINE for source in sources)
    return HEAD + "".join(f"{line}\n" for line in lines) + (f"{MARK}{mark}\n" if mark else "")


def mark_of(sources: Sequence[bytes]) -> str:
    """Make the mark of a key file, which changes if its keys or their order change."""
    return blake2b(b"".join(sources), digest_size=16, person=b"flc-udp key file").hexdigest()


def add(ring: Keyring, secret: bytes) -> Keyring:
    """Add a key that opens and does not seal. A key that is there already stays in its place."""
    changed = keyring((*ring.sources, secret), ring.cluster)
    if len(changed.keys) > KEYS_MAX:
        raise FlcError(
            f"the ring holds {len(ring.keys)} keys, {KEYS_MAX} are allowed",
            "remove those that nobody seals under: see `flc keys list`",
        )
    if len({key.id for key in changed.keys}) < len(changed.keys):
        raise FlcError(
            "another key of the ring has the same id by chance", "make another: `flc keygen`"
        )
    return changed


def use(ring: Keyring, name: str) -> Keyring:
    """Let another key of the ring seal from now on. All keys open as before."""
    first = find(ring, name)
    return ring._replace(keys=(first, *(key for key in ring.keys if key != first)))


def remove(ring: Keyring, name: str) -> Keyring:
    """Remove a key, so that it does not open any more; raises FlcError if it seals."""
    gone = find(ring, name)
    others = tuple(key for key in ring.keys if key != gone)
    if gone == ring.keys[0]:
        hint = f"`flc keys use` another one first: {', '.join(key.name for key in others)}"
        if not others:
            hint = "it is the only one: `flc keys add` another and `flc keys use` that first"
        raise FlcError(f"key {gone.name} seals what this node sends: it cannot be removed", hint)
    return ring._replace(keys=others)


def find(ring: Keyring, name: str) -> Key:
    """Find the key with that id; raises FlcError, which names all keys of the ring."""
    known = f"the ring holds {', '.join(key.name for key in ring.keys)}"
    if not KEY_NAME.fullmatch(name):  # The error does not repeat it: it may be the secret itself.
        raise FlcError("a key is named by its id, 8 hex digits, or by `open`", known)
    for key in ring.keys:
        if name in (key.name, key.id.hex()):
            return key
    raise FlcError(f"no key {name} is in the ring", known)
