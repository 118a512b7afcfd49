"""The ring of a node: how it is changed, and the text that keeps it in the data directory.

    # comment
    base64 of 32 bytes, or `open`      the first line seals, any opens
    …
    # key file 5a0c…                   what `--key-file` held when this was written

Rules. A change gives a new ring and touches none. What seals is never removed, so no ring is ever
empty, and no order of changes leaves a node without a key that it sealed under a moment before.
Errors name keys by their ids: a key is a secret. A key file cannot say `open`: it is what closes.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from flc_udp.model.errors import FlcError
from flc_udp.wire.seal import OPEN, Key, Keyring, keyring, read_key

KEYS_MAX = 16
"""A change of keys needs two; a ring that only grows is one that nobody looks after."""

HEAD = "# The ring of this node: the first line seals, any opens. `flc keys` changes it.\n"
MARK = "# key file "
OPEN_LINE = "open"

KEY_NAME = re.compile(r"[0-9a-f]{8}|open")

RING_HINT = "a ring has a base64 key or `open` a line; without the file --key-file makes a new one"


class Held(NamedTuple):
    """A ring as a data directory holds it."""

    sources: tuple[bytes, ...]
    mark: str
    """`mark_of` the key file as it was then; empty where there was none."""


def read_ring(path: Path) -> Held:
    """What a data directory holds; raises FlcError."""
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
        raise FlcError(f"cannot read the ring {path}: {reason}", RING_HINT) from error
    sources, mark = [], ""
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if line.startswith(MARK):
            mark = line.removeprefix(MARK).strip()
        elif text == OPEN_LINE:
            sources.append(OPEN)
        elif text:
            sources.append(read_key(text, f"{path}, line {number}"))
    if not sources:
        raise FlcError(f"the ring {path} holds no key", RING_HINT)
    return Held(tuple(sources), mark)


def ring_text(sources: Sequence[bytes], mark: str) -> str:
    """What `read_ring` reads."""
    lines = (base64.b64encode(source).decode() if source else OPEN_LINE for source in sources)
    return HEAD + "".join(f"{line}\n" for line in lines) + (f"{MARK}{mark}\n" if mark else "")


def mark_of(sources: Sequence[bytes]) -> str:
    """Tells whether a key file still holds these keys in this order, whatever else it says."""
    return blake2b(b"".join(sources), digest_size=16, person=b"flc-udp key file").hexdigest()


def add(ring: Keyring, secret: bytes) -> Keyring:
    """It opens too, and does not seal. What is there already stays where it is."""
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
    """It seals from here on, and all open as before."""
    first = find(ring, name)
    return ring._replace(keys=(first, *(key for key in ring.keys if key != first)))


def remove(ring: Keyring, name: str) -> Keyring:
    """It opens no more."""
    gone = find(ring, name)
    others = tuple(key for key in ring.keys if key != gone)
    if gone == ring.keys[0]:
        names = ", ".join(key.name for key in others)
        raise FlcError(
            f"key {gone.name} seals what this node sends: it cannot be removed",
            f"`flc keys use` another one first: {names}"
            if others
            else "it is the only one: `flc keys add` another and `flc keys use` that first",
        )
    return ring._replace(keys=others)


def find(ring: Keyring, name: str) -> Key:
    """The key of that id; raises FlcError naming all there are."""
    known = f"the ring holds {', '.join(key.name for key in ring.keys)}"
    if not KEY_NAME.fullmatch(name):  # It is not repeated: it may be the secret itself.
        raise FlcError("a key is named by its id, 8 hex digits, or by `open`", known)
    for key in ring.keys:
        if name in (key.name, key.id.hex()):
            return key
    raise FlcError(f"no key {name} is in the ring", known)
