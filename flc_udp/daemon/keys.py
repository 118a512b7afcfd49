"""The keys of a running node: its ring at the start, and each change of it while it runs.

Rules. The ring is kept in the data directory. Changes are made one after the other. A change is
written there before it takes effect, and it takes effect before it is answered. A change that is
refused or that cannot be written changes nothing.

What was changed last counts, the ring or the key file. At a start, a key file (--key-file) replaces
the whole ring if its keys are not those that it had at the last start or at the last change of the
ring. Otherwise the ring stays. So a restart with an old key file does not undo a change of keys,
and a new key file is followed. A start that fails after all leaves the ring as it was.
"""

import asyncio
from contextlib import suppress
from pathlib import Path

from flc_udp.config import Settings
from flc_udp.daemon.dumps import hide_memory
from flc_udp.daemon.notices import KeyFileOutdated, KeysChanged
from flc_udp.daemon.stderr import tell
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import DataDirectory
from flc_udp.store.way_out import way_out
from flc_udp.wire import ring as rings
from flc_udp.wire.message_json import Record
from flc_udp.wire.ring import SavedRing, mark_of, read_ring, ring_text
from flc_udp.wire.seal import Keyring, Seal, keyring, read_key, read_keys

CHANGES = ("add", "use", "remove")

Begun = asyncio.Task[str | FlcError] | None
"""A change of the ring that is under way. None: only the list was asked for."""


class Keys:
    """The ring of keys, the file that keeps it, and the seal that uses it."""

    def __init__(self, settings: Settings, directory: DataDirectory) -> None:
        """Raises FlcError if the ring or the key file cannot be read."""
        self._directory = directory
        self._key_file = Path(settings.key_file) if settings.key_file else None
        self._cluster = settings.cluster
        self._one_at_a_time = asyncio.Lock()
        self._changes: dict[asyncio.Task[str | FlcError], None] = {}
        self._seal: Seal
        self._mark = ""
        self._given: SavedRing | None = None
        """What this start took from a key file, until it is saved."""
        self._is_news = False
        self.ring = self._at_start()

    def seal(self, session: bytes) -> Seal:
        """A seal that uses the ring, and follows each change of it."""
        if any(self.ring.sources):
            hide_memory()
        self._seal = Seal(self.ring, session)
        return self._seal

    # --- At a start ---------------------------------------------------------------------------

    def _at_start(self) -> Keyring:
        held = self._saved()
        if self._key_file is None:
            self._mark = held.mark if held else ""
            return keyring(held.sources if held else (), self._cluster)
        given = SavedRing(found := read_keys(self._key_file), mark_of(found))
        self._mark = given.mark
        if held is not None and held.mark == given.mark:
            if held.sources != given.sources:
                tell(KeyFileOutdated(self._key_file))
            return keyring(held.sources, self._cluster)
        self._given = given
        self._is_news = held is not None and held.sources != given.sources
        return keyring(given.sources, self._cluster)

    def save(self) -> None:
        """Write what this start took from a key file; raises FlcError.

        Nothing else of the start may fail afterwards: the next one goes by what is written.
        """
        given, self._given = self._given, None
        if given is not None:
            self._write(given)
        if self._is_news:
            self._tell("key file", self.ring, None)

    def _saved(self) -> SavedRing | None:
        path = self._directory.keys
        try:
            return read_ring(path) if path.exists() else None
        except FlcError as error:
            if isinstance(error.__cause__, OSError):
                error = FlcError(str(error), way_out(path.parent, error.__cause__))
            raise error from error.__cause__

    # --- While it runs ------------------------------------------------------------------------

    def begin(self, request: Record) -> Begun:
        """Begin the change that is asked for, if any. Raises FlcError if it is none."""
        asked = [name for name in CHANGES if request.get(name) is not None]
        if not asked:
            return None
        if len(asked) > 1:
            raise FlcError(f"{' and '.join(asked)} exclude each other", "give one of them")
        change, wanted = asked[0], request[asked[0]]
        if not isinstance(wanted, str):
            raise FlcError(f"{change} takes a text", "see `flc keys --help`")
        task = asyncio.get_running_loop().create_task(self._change(change, wanted.strip()))
        self._changes[task] = None
        task.add_done_callback(self._changes.pop)
        return task

    async def outcome(self, begun: Begun) -> str | None:
        """Wait for a change; return the name of the key that it is about. Raises FlcError."""
        if begun is None:
            return None
        # A refusal is a result and not an exception, because the client may be gone by now.
        outcome = await asyncio.shield(begun)
        if isinstance(outcome, FlcError):
            raise outcome
        return outcome

    async def _change(self, change: str, wanted: str) -> str | FlcError:
        async with self._one_at_a_time:
            try:
                ring, name = _changed(self.ring, change, wanted)
                if ring != self.ring:
                    await asyncio.to_thread(self._keep, ring)
            except FlcError as error:
                return error
            if ring != self.ring:
                self.ring = ring
                hide_memory()
                self._seal.rekey(ring)
                self._tell(change, ring, name)
            return name

    def _keep(self, ring: Keyring) -> None:
        if self._key_file is not None:
            with suppress(FlcError):  # If it is gone, what was last read of it counts.
                self._mark = mark_of(read_keys(self._key_file))
        self._write(SavedRing(ring.sources, self._mark))

    def _write(self, held: SavedRing) -> None:
        try:
            self._directory.write_keys(ring_text(*held))
        except OSError as error:
            raise FlcError(
                f"the ring {self._directory.keys} cannot be written: {error.strerror}",
                "nothing was changed; look at the disk and at the rights of the data directory",
            ) from error

    def _tell(self, change: str, ring: Keyring, key: str | None) -> None:
        names = [key.name for key in ring.keys]
        tell(KeysChanged(change, key, names[0], names))


def _changed(ring: Keyring, change: str, wanted: str) -> tuple[Keyring, str]:
    """The ring after the change, and the name of the key that it is about; raises FlcError."""
    if change == "add":
        secret = read_key(wanted, "what is to be added")
        (key,) = keyring((secret,), ring.cluster).keys
        return rings.add(ring, secret), key.name
    name = rings.find(ring, wanted).name
    return (rings.use if change == "use" else rings.remove)(ring, wanted), name
