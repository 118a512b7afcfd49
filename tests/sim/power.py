"""Plays in which the power goes: `python -m tests.sim.power 1000 0` plays so many seeds from 0.

One machine of a small world has its log in real files, written by the real store under a recording
(`tests.store.power`). At a drawn write its power goes, and its files are as they may be then. The
node starts from them, as any node does, while the others have gone on; and the power goes again.

An honest disk starts at once, without an alarm, with all that the node had ever told, and with the
transaction that was under way as a whole or not at all. A disk that lied about syncs may lose its
end. It starts, or `flc fsck --repair` makes that it does. The world's checks hold for both: nothing
is made up, nothing claimed that is not there, no dot minted twice. In the end all are equal, and
fsck finds nothing.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest import mock

from flc_udp.config import Settings
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.model.units import MS_US
from flc_udp.sim.disk import WALL_STRETCH, Disk, DiskLog, Fate, Result
from flc_udp.sim.network import Faults
from flc_udp.sim.plan import draw_retention
from flc_udp.sim.world import World
from flc_udp.store.fsck.database import Fsck
from flc_udp.store.fsck.findings import Finding
from flc_udp.store.log import Log
from flc_udp.store.reader import Reader
from flc_udp.store.repair.repair import needs_repair
from flc_udp.store.wal import wal_of
from tests.store.flips import mend
from tests.store.power import Recording, recorded, write_files

CUTS = 3
SETTLE_MS = 60_000
WRITES_MAX = 30
"""The power goes at one of so many transactions of a life."""

SIZES = (10, 10, 10, 300, 300, 3_000, 20_000)
NAME = "b"

SELECT_COUNTS = "SELECT log.id, block.seq, count FROM block JOIN log ON log.no = log_no"


class FileLog(DiskLog):
    """A log in files."""

    def reader(self) -> Reader:
        """Read by the writer's connection: nothing here reads meanwhile."""
        return Reader(self.connection, lent=True)


class FileDisk(Disk):
    """Files in a directory, which is another one after each cut."""

    def __init__(self, chance: Random) -> None:
        super().__init__(chance)
        self.connection.close()
        self._chance = chance
        self.recording: Recording
        self.kept: dict[Dot, int] = {}
        """What the machine's follower knows that it has."""
        self.before: dict[Dot, int] = {}
        """The same, before the last transaction."""
        self.cut_after = 0
        """The power goes at this transaction of the present life."""
        self._told_ops = 0
        """What was done up to here is what the node may have told others of."""

    def begin(self, directory: Path) -> None:
        """The next life is in this directory."""
        before = {file.name: file.read_bytes() for file in directory.glob("flc.db*")}
        self.recording = Recording(directory, before)
        self.cut_after, self._told_ops = self._chance.randint(0, WRITES_MAX), 0

    def log(self) -> DiskLog:
        """Open the database, which folds its WAL in more often than a daemon's does."""
        log = FileLog.open(self.recording.directory / "flc.db")
        assert isinstance(log, DiskLog)
        self.connection = log.connection
        pages = self._chance.choice((1, 5, 20, 100))
        self.connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
        return log

    def next_fate(self, faults: Faults, operation: str) -> Fate:
        """The machine crashes at one transaction. Then its files are drawn."""
        self.cut_after -= 1
        self.before = dict(self.kept)
        if self.cut_after <= 0:
            return Fate.CRASH_AFTER
        return super().next_fate(faults, operation)

    def write(
        self, operation: str, fate: Fate, write: Callable[[], Result]
    ) -> Result | StoreFailed:
        """Note what the node knows to be durable when it is told that this is done."""
        result = super().write(operation, fate, write)
        if fate is Fate.DONE:
            self._told_ops = len(self.recording.ops)
        return result

    def cut(self, *, honest: bool) -> dict[str, bytes]:
        """What the power leaves, at any moment since the node was last told of a transaction."""
        ops, chance = self.recording.ops, self._chance
        end = chance.randint(self._told_ops, len(ops))
        lied = chance.choice(
            (range(chance.randint(0, end), end), set(chance.sample(range(end), end // 2)))
        )
        return self.recording.after_cut(end, chance, lambda at: not honest and at in lied)


class _GuessedError(Exception):
    """The play ends here: what was guessed is no claim, and the checks would take it for one."""


class Play:
    """One seed."""

    def __init__(self, seed: int, home: Path, *, honest: bool) -> None:
        self.chance = chance = Random(f"{seed}/power")
        self._home, self._honest = home, honest
        kind = chance.choice(("all", "all", "age", "bytes"))
        own = {NAME: draw_retention(Settings(), kind, chance)}
        names = "ab" if chance.random() < 1 / 2 else "abc"
        self.world = World(names, seed, own=own, late=NAME)
        self.machine = self.world.machines[NAME]
        self.machine.disk.connection.close()
        self.disk = self.machine.disk = FileDisk(chance)
        self.outcomes: Counter[str] = Counter()
        self._said = 0

    def run(self) -> Counter[str]:
        """Play it; return how often what happened."""
        with self.world, recorded(lambda: self.disk.recording):
            self.disk.begin(self._directory({}))
            for _ in range(CUTS):
                self._live()
                self._lose_power()
            self.disk.cut_after = 1 << 30
            self.machine.start()
            self._talk(10)
            self._end()
        return self.outcomes

    def _directory(self, content: dict[str, bytes]) -> Path:
        path = self._home / f"life{len(list(self._home.iterdir()))}"
        return write_files(path, content).parent

    def _live(self) -> None:
        """A life, which ends at a drawn transaction at the latest."""
        self.disk.kept = self.machine.follower.kept
        self.machine.start()
        self.disk.kept = self.machine.follower.kept  # It is read anew at the start.
        self.disk.before = dict(self.disk.kept)
        if self.disk.cut_after:
            self._talk(self.chance.randint(10, 60))
        self.machine.crash("for lack of power")
        self.disk.recording.is_over = True
        self.disk.connection.close()

    def _talk(self, count: int) -> None:
        world, chance = self.world, self.chance
        for _ in range(count):
            up = [machine for machine in world.machines.values() if machine.node is not None]
            bodies = []
            for _ in range(chance.choice((1, 1, 1, 4))):
                self._said += 1
                bodies.append(f"{self._said} ".ljust(chance.choice(SIZES), "."))
            chance.choice(up).say(chance.choice(("ops", "lobby")), *bodies)
            world.run(chance.choice((0, 1, 10, 200)))

    def _lose_power(self) -> None:
        content = self.disk.cut(honest=self._honest)
        path = self._directory(content) / "flc.db"
        follower, held = self.machine.follower, dict(self.machine.follower.kept)
        path = self._made_to_start(path)
        copy = self._copy(path)
        with closing(FileLog.open(copy)) as log:
            assert isinstance(log, FileLog)
            log.load()
            found = list(Fsck(log.connection).findings())
            if not self._honest and (guess := self._guess(log)):
                raise _GuessedError(guess)
            follower.put_back(log)
        self._judge(held, follower.kept, found)
        self.disk.begin(path.parent)
        self._talk(self.chance.randint(0, 5))

    def _made_to_start(self, path: Path) -> Path:
        """Do what the operator of a disk that may have lied does: what fsck and the hints say."""
        problem = self._problem(self._copy(path))
        self.outcomes["refused" if problem else "starts"] += 1
        if self._honest:
            assert problem is None, problem
            return path
        if problem is not None and "was replaced" in problem:
            self.outcomes["WAL removed"] += 1
            wal_of(path).unlink()
            return self._made_to_start(path)
        if not needs_repair(self._copy(path)):
            assert problem is None, problem
            return path
        self.outcomes["starts damaged"] += problem is None
        try:
            self._mend(path)
        except FlcError as error:
            if "nothing of it can be read" not in str(error):
                raise
            self.outcomes["nothing left"] += 1
            return self._directory({}) / "flc.db"
        self.outcomes["repaired"] += 1
        # Where what was pruned was the last of its room, nobody knows which of it was no edge.
        self.world.checks.has_pruned_rotten = True
        # When what is left arrived is known only roughly, and the checks know exactly.
        self.machine.settings = replace(self.machine.settings, retention_age_s=0, retention_bytes=0)
        return path

    def _mend(self, path: Path) -> None:
        """Repair it, by the clock of the machine."""
        now_ns = self.machine.wall() * WALL_STRETCH * MS_US * 1_000
        with mock.patch("time.time_ns", return_value=now_ns):
            mend(path)

    def _guess(self, log: Log) -> str:
        """What a repair could not know and wrote all the same, where the checks know better."""
        minted, history = self.world.checks.minted, log.load()
        heads = history.heads
        for of, head in history.bases.items():
            if head.stamp < minted[Dot(of, head.seq)].block.stamp:
                return "a base has too low a stamp"
        for of, last, count in log.connection.execute(SELECT_COUNTS):
            if count != len(minted[Dot(of, last)].block.bodies):
                return "one row stands for several blocks"
            causes = minted[Dot(of, last)].block.causes
            if any(
                cause.seq > (heads[cause.log].seq if cause.log in heads else 0) for cause in causes
            ):
                return "a block waits without its causes"
        return ""

    def _copy(self, path: Path) -> Path:
        copy = self._home / f"copy{len(list(self._home.iterdir()))}"
        return Path(shutil.copytree(path.parent, copy)) / "flc.db"

    def _problem(self, path: Path) -> str | None:
        """Why a node does not start from these files."""
        try:
            with closing(Log.open(path)) as log:
                log.load()
        except (FlcError, StoreFailed) as error:
            return str(error)
        return None

    def _judge(self, held: dict[Dot, int], left: dict[Dot, int], found: Sequence[Finding]) -> None:
        if self._honest:
            assert found == []
            assert left in (held, self.disk.before), held.keys() ^ left.keys()
        self.outcomes[
            "whole" if left == held else "before" if left == self.disk.before else "less"
        ] += 1
        self.outcomes["findings"] += bool(found)

    def _end(self) -> None:
        """All end equal once everything was read, which tells what a repair left to be healed."""
        for _ in range(0 if self._honest else 8):
            self.world.run(5_000)
            self.machine.read_all()
        if not self._honest:
            self._bring_lost()
            self.world.run_until_quiet(SETTLE_MS, members_too=True)
            if self._findings():
                self._repair_again()
        self.world.settle()
        assert self._findings() == []

    def _findings(self) -> list[Finding]:
        return list(Fsck(self.disk.connection).findings())

    def _repair_again(self) -> None:
        """Where a clock was newer than what it counts, that shows when the rest is healed."""
        self.outcomes["repaired again"] += 1
        self.machine.crash()
        self.disk.connection.close()
        path = self.disk.recording.directory / "flc.db"
        self._mend(path)
        with closing(FileLog.open(path)) as log:
            self.machine.follower.put_back(log)
        self.machine.start()

    def _bring_lost(self) -> None:
        """Nobody has a sound copy of what the disk lied about: it comes from elsewhere."""
        others = [m for m in self.world.machines.values() if m is not self.machine]
        held = {dot for other in others for dot in other.soundness()}
        mine = self.machine.soundness()
        lost = [dot for dot, is_sound in mine.items() if not is_sound and dot not in held]
        if lost:
            self.outcomes["brought"] += 1
            self.machine.crash()
            self.machine.bring(lost)
            self.disk.connection.close()
            self.machine.start()
            self.world.run(5_000)
            self.machine.read_all()
            self.world.run(5_000)


def play(seed: int, *, honest: bool) -> Counter[str]:
    """Play a seed, and count what happened; an error names the seed."""
    with tempfile.TemporaryDirectory() as home:
        play = Play(seed, Path(home), honest=honest)
        try:
            return play.run()
        except _GuessedError as guess:
            return play.outcomes + Counter((f"ended: {guess}",))
        except Exception as error:
            error.add_note(f"seed {seed} of {'an honest' if honest else 'a lying'} disk")
            raise


def main(count: int, first: int) -> int:
    """Play so many seeds, each with an honest disk and with one that lies; 1 if any failed."""
    outcomes = {"honest": Counter[str](), "lying": Counter[str]()}
    failed = 0
    for seed in range(first, first + count):
        for kind, counts in outcomes.items():
            try:
                counts.update(play(seed, honest=kind == "honest"))
            except Exception:  # noqa: BLE001  # all of them are the report's
                failed += 1
                sys.stdout.write(traceback.format_exc())
                sys.stdout.flush()
    for kind, counts in outcomes.items():
        words = ", ".join(f"{number} {what}" for what, number in sorted(counts.items()) if number)
        sys.stdout.write(f"{kind} disks: {words}\n")
    sys.stdout.write(f"{count} seeds from {first}: {failed} plays failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
