"""The files of a database: what does not belong together is refused, what is gone is noticed."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.model.errors import FlcError, StoreFailed
from flc_udp.store import files
from flc_udp.store.backup import back_up
from flc_udp.store.log import Log
from flc_udp.store.sums import keep_sums
from tests.store.conftest import Authors


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory."""
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def running(home: Path, authors: Authors) -> Iterator[Log]:
    """A log with one folded-in message, and a second one in its WAL."""
    with closing(Log.open(home / "flc.db")) as log:
        log.append([authors.say("ann", body="folded in")])
    with closing(Log.open(home / "flc.db")) as log, closing(log.reader()):
        log.append([authors.say("ann", body="in the WAL")])
        yield log


def killed(home: Path, to: Path) -> Path:
    """The directory as a kill leaves it."""
    shutil.copytree(home, to)
    return to


def restored(home: Path, to: Path) -> Path:
    """A directory with nothing but a backup."""
    to.mkdir()
    backed_up(home, to / "flc.db")
    return to


def empty(home: Path, to: Path) -> Path:
    """A new directory beside it."""
    assert home.parent == to.parent
    to.mkdir()
    return to


def held(path: Path) -> int:
    """How many messages a log holds that is opened now."""
    with closing(Log.open(path / "flc.db")) as log, closing(log.reader()) as reader:
        return reader.counts()[0]


def backed_up(home: Path, to: Path) -> Path:
    """A copy by `flc backup`."""
    back_up(home / "flc.db", to, replace=False)
    return to


def copied(home: Path, to: Path) -> Path:
    """A copy of the file alone, from before this life."""
    shutil.copy(home / "flc.db", to)
    with closing(sqlite3.connect(to)) as connection, connection:
        keep_sums(connection)
        connection.execute("UPDATE node SET value = 'an older life' WHERE key = 'life'")
    return to


class TestTogether:
    """A database and the WAL beside it."""

    def test_after_a_kill_everything_is_there(self, home: Path, running: Log) -> None:
        """What was committed lies in the WAL, which belongs to its database."""
        assert running.load().heads
        assert held(killed(home, home.with_name("killed"))) == 2

    @pytest.mark.parametrize("token", ["1234567812345678", "1234567e89012345", "0000000000000012"])
    def test_a_number_that_looks_like_another_kind_of_number(
        self, home: Path, authors: Authors, monkeypatch: pytest.MonkeyPatch, token: str
    ) -> None:
        """SQLite would keep it as an integer, or as one without end, and it fitted no more."""
        monkeypatch.setattr(files.secrets, "token_hex", lambda _bytes: token)
        with closing(Log.open(home / "flc.db")) as log, closing(log.reader()):
            log.append([authors.say("ann")])
            left = killed(home, home.with_name("left"))
        with closing(Log.open(left / "flc.db")) as log:
            assert len(log.load().heads) == 1

    @pytest.mark.parametrize("copy", [backed_up, copied])
    def test_another_database_beside_it_is_refused_untouched(
        self, home: Path, running: Log, copy: Callable[[Path, Path], Path]
    ) -> None:
        """A backup that was put over `flc.db` of a node that was killed; both ways out work."""
        assert running.load().heads
        other = copy(home, home.with_name("other"))
        place = killed(home, home.with_name("killed"))
        (place / "flc.db").rename(place / "before")
        shutil.copy(other, place / "flc.db")
        found = {path.name: path.read_bytes() for path in place.iterdir()}

        with pytest.raises(FlcError, match="was replaced") as refused:
            Log.open(place / "flc.db")
        assert {path.name: path.read_bytes() for path in place.iterdir()} == found
        back = shutil.copytree(place, place.with_name("back"))
        (back / "before").replace(back / "flc.db")
        assert held(back) == 2
        for name in ("flc.db-wal", "flc.db-shm"):
            assert str(place / name) in refused.value.hint
            (place / name).unlink()
        assert held(place) in (1, 2)

    def test_a_backup_in_an_empty_directory_is_taken(self, home: Path, running: Log) -> None:
        """As the help of `flc backup` says, and without any trace of the life it was made in."""
        assert running.load().heads
        new = home.with_name("new")
        new.mkdir()
        backed_up(home, new / "flc.db")
        with closing(sqlite3.connect(new / "flc.db")) as copy:
            assert copy.execute("SELECT value FROM node WHERE key = 'life'").fetchall() == []
        assert held(new) == 2

    def test_a_copy_without_the_number_is_taken(self, home: Path, running: Log) -> None:
        """Somebody moved the database and its WAL, and knew of no third file."""
        assert running.load().heads
        place = killed(home, home.with_name("killed"))
        (place / "flc.db-life").unlink()
        assert held(place) == 2

    @pytest.mark.parametrize("step", range(6))
    @pytest.mark.parametrize(("begin", "messages"), [(killed, 2), (restored, 2), (empty, 0)])
    def test_a_start_that_was_killed_anywhere_harms_no_other(
        self,
        home: Path,
        running: Log,
        monkeypatch: pytest.MonkeyPatch,
        step: int,
        begin: Callable[[Path, Path], Path],
        messages: int,
    ) -> None:
        """Before and after each of its steps the next start finds everything."""
        assert running.load().heads
        place = begin(home, home.with_name("killed"))
        left: list[Path] = []
        steps = [0]

        def crash_at_this_step() -> None:
            if steps[0] == step:
                left.append(killed(place, home.with_name("left")))
            steps[0] += 1

        write_whole, atomic = files.write_whole, files.atomic

        def writing(path: Path, text: str) -> None:
            crash_at_this_step()
            write_whole(path, text)
            crash_at_this_step()

        def beginning(connection: sqlite3.Connection) -> object:
            crash_at_this_step()
            return atomic(connection)

        monkeypatch.setattr(files, "write_whole", writing)
        monkeypatch.setattr(files, "atomic", beginning)
        assert held(place) == messages
        monkeypatch.undo()
        assert held(left[0] if left else place) == messages
        assert steps == [5]

    def test_a_program_that_reads_on_is_named(self, home: Path, running: Log) -> None:
        """Without folding in, nobody knows what of the WAL is on the disk."""
        assert running.load().heads
        place = killed(home, home.with_name("killed"))
        with closing(sqlite3.connect(place / "flc.db")) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM block").fetchall()
            with pytest.raises(FlcError, match="another program reads") as refused:
                Log.open(place / "flc.db")
        assert "fuser" in refused.value.hint
        assert held(place) == 2


class TestOthersNames:
    """A database that another node may write, too, or whose WAL would lie elsewhere."""

    def test_a_link_is_refused(self, tmp_path: Path, home: Path, running: Log) -> None:
        """The lock is that of the directory, and the WAL lies beside the link."""
        assert running.load().heads
        (tmp_path / "flc.db").symlink_to(home / "flc.db")
        with pytest.raises(FlcError, match="is a link to") as refused:
            Log.open(tmp_path / "flc.db")
        assert refused.value.hint

    def test_a_second_name_is_refused(self, tmp_path: Path, home: Path, running: Log) -> None:
        """Until it is removed."""
        running.close()
        (tmp_path / "flc.db").hardlink_to(home / "flc.db")
        for path in (home, tmp_path):
            with pytest.raises(FlcError, match="has 2 names") as refused:
                Log.open(path / "flc.db")
            assert "-samefile" in refused.value.hint
        (tmp_path / "flc.db").unlink()
        assert held(home) == 2

    @pytest.mark.parametrize(
        ("make", "words"), [(Path.mkdir, "is a directory"), (os.mkfifo, "is no plain file")]
    )
    def test_what_is_no_file_is_refused(
        self, tmp_path: Path, make: Callable[[Path], None], words: str
    ) -> None:
        """And said so, before SQLite meets it."""
        make(tmp_path / "flc.db")
        with pytest.raises(FlcError, match=words) as refused:
            Log.open(tmp_path / "flc.db")
        assert refused.value.hint

    def test_a_mount_of_its_own_is_refused(
        self, home: Path, running: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As /proc/self/mountinfo tells it, with its blanks written as numbers."""
        running.close()
        place = home.rename(home.with_name("a place"))
        table = home.with_name("mountinfo")
        monkeypatch.setattr(files, "MOUNTS", table)
        line = "36 35 98:0 /mnt1 {} rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
        table.write_text(line.format("/") + line.format(str(place).replace(" ", "\\040")))
        assert held(place) == 2
        table.write_text(line.format(str(place / "flc.db").replace(" ", "\\040")))
        with pytest.raises(FlcError, match="is a mount of its own") as refused:
            Log.open(place / "flc.db")
        assert str(place) in refused.value.hint

    @pytest.mark.parametrize("state", ["is empty", "is missing"])
    def test_a_file_that_is_gone_is_no_new_log(self, home: Path, running: Log, state: str) -> None:
        """Emptied by a redirection, or deleted, after a kill or not; what is beside it stays."""
        place = killed(home, home.with_name("killed"))
        running.close()
        for path, beside in ((home, ["life"]), (place, ["life", "wal"])):
            (path / "flc.db").unlink()
            if state == "is empty":
                (path / "flc.db").touch()
            found = {name.name: name.read_bytes() for name in path.iterdir()}
            with pytest.raises(FlcError, match=state) as refused:
                Log.open(path / "flc.db")
            assert {name.name: name.read_bytes() for name in path.iterdir()} == found
            for name in beside:
                assert str(path / f"flc.db-{name}") in refused.value.hint
                (path / f"flc.db-{name}").unlink()
            (path / "flc.db-shm").unlink(missing_ok=True)
            assert held(path) == 0

    def test_one_that_cannot_be_read_was_not_replaced(
        self, home: Path, running: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody is told to move its WAL away."""
        assert running.load().heads
        place = killed(home, home.with_name("killed"))

        def refuse(*_: object, **_how: object) -> None:
            raise sqlite3.OperationalError("unable to open database file")

        def deny(*_: object, **_how: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(files.sqlite3, "connect", refuse)
        monkeypatch.setattr(Path, "open", deny)
        with pytest.raises(FlcError, match="Permission denied"):
            Log.open(place / "flc.db")

    def test_a_wal_without_its_database_is_kept(self, home: Path, running: Log) -> None:
        """Also where nothing else tells of a life."""
        assert running.load().heads
        place = killed(home, home.with_name("killed"))
        for name in ("flc.db", "flc.db-life", "flc.db-shm"):
            (place / name).unlink()
        with pytest.raises(FlcError, match=r"is missing.*flc\.db-wal"):
            Log.open(place / "flc.db")


class TestWhileItRuns:
    """Files that are deleted, moved or replaced under the writer."""

    @pytest.mark.parametrize("name", ["flc.db", "flc.db-wal", "flc.db-shm"])
    def test_nothing_more_is_committed(
        self, home: Path, running: Log, authors: Authors, name: str
    ) -> None:
        """Whether it is gone or another; when it is back in its place, everything goes on."""
        path = home / name
        path.rename(home / "away")
        for content in (None, b"", b"another file"):
            if content is not None:
                path.write_bytes(content)
            for write in (lambda: running.append([]), lambda: running.save_peers([])):
                with pytest.raises(StoreFailed, match="was deleted, moved or replaced"):
                    write()
            with pytest.raises(StoreFailed, match="was deleted, moved or replaced"):
                running.recover()
        (home / "away").replace(path)
        running.recover()
        running.append([authors.say("ann", body="again")])
        with closing(running.reader()) as reader:
            assert reader.counts()[0] == 3

    @pytest.mark.parametrize("name", ["flc.db", "flc.db-wal", "flc.db-shm"])
    @pytest.mark.parametrize("left_bytes", [0, 4_000, 4_096])
    def test_files_that_were_cut_short_take_no_more(
        self, home: Path, running: Log, authors: Authors, name: str, left_bytes: int
    ) -> None:
        """What lies in them is not all there, and what is written behind it would be lost, too."""
        running.append([authors.say("ann", body="x" * 20_000)])
        whole = (home / name).read_bytes()
        assert left_bytes < len(whole)
        os.truncate(home / name, left_bytes)
        for _ in range(2):
            with pytest.raises(StoreFailed, match=f"{name} was cut short"):
                running.append([])
        with pytest.raises(StoreFailed, match="was cut short"):
            running.recover()
        (home / name).write_bytes(whole)
        running.recover()
        assert running.append([authors.say("ann", body="again")]) == 4

    def test_what_makes_files_smaller_in_order_is_no_cut(
        self, home: Path, running: Log, authors: Authors
    ) -> None:
        """Pruning gives space back, and another program may fold the WAL in."""
        for _ in range(4):
            running.append([authors.say("ann", body="x" * 1_000_000)])
        sizes_bytes = []
        while running.retain(arrived_before_ms=None, bytes_max=1).more:
            with closing(sqlite3.connect(home / "flc.db")) as other:
                other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            sizes_bytes.append((home / "flc.db").stat().st_size)
            assert (home / "flc.db-wal").stat().st_size == 0
        assert running.append([authors.say("ann", body="again")]) == 7
        assert sizes_bytes[-1] < max(sizes_bytes) // 2

    def test_a_directory_that_was_moved_is_back(
        self, home: Path, running: Log, authors: Authors
    ) -> None:
        """As one that another file system was mounted over."""
        away = home.rename(home.with_name("away"))
        with pytest.raises(StoreFailed, match="was deleted, moved or replaced"):
            running.append([])
        away.rename(home)
        running.recover()
        assert running.append([authors.say("ann", body="again")]) == 3

    @pytest.mark.parametrize("copy", [backed_up, copied])
    @pytest.mark.parametrize("more", [0, 40_000])
    def test_a_copy_that_is_written_into_the_database(
        self,
        home: Path,
        running: Log,
        authors: Authors,
        copy: Callable[[Path, Path], Path],
        more: int,
    ) -> None:
        """`cp` keeps the file and may keep its size."""
        other = copy(home, home.with_name("other")).read_bytes()
        running.append([authors.say("ann")])
        (home / "flc.db").write_bytes(other + bytes(more))
        for _ in range(2):
            with pytest.raises(StoreFailed, match=r"flc\.db was overwritten"):
                running.append([authors.say("ann")])
        assert "flc.db was overwritten" in str(running.missing())
        with pytest.raises(StoreFailed, match="was overwritten"):
            running.recover()

    def test_a_copy_that_is_written_into_the_wal(
        self, home: Path, running: Log, authors: Authors
    ) -> None:
        """Even one that was made before."""
        wal = home / "flc.db-wal"
        other = wal.read_bytes()
        running.append([authors.say("ann")])
        now = wal.read_bytes()
        wal.write_bytes(other + bytes(len(now) - len(other)))
        with pytest.raises(StoreFailed, match=r"flc\.db-wal was overwritten"):
            running.append([])
        wal.write_bytes(now)
        assert running.append([authors.say("ann")]) == 4

    def test_folding_in_is_no_overwriting(self, home: Path, running: Log, authors: Authors) -> None:
        """Whoever does it, and however: the number of this life stays where it is."""
        for mode in ("PASSIVE", "FULL", "RESTART", "TRUNCATE"):
            running.save_self(b"the node", len(mode))
            running.append([authors.say("ann", body="x" * 100_000)])
            with closing(sqlite3.connect(home / "flc.db")) as other:
                other.execute(f"PRAGMA wal_checkpoint({mode})")
            running.append([authors.say("ann")])
            running.connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        assert running.append([authors.say("ann")]) == 11

    @pytest.mark.parametrize("content", [None, "", "x0123456789abcdef", "\xff"])
    def test_the_number_beside_it_is_written_again(
        self, home: Path, running: Log, authors: Authors, content: str | None
    ) -> None:
        """Somebody deleted or changed it: with it goes what keeps another database from the WAL."""
        life = home / "flc.db-life"
        before = life.read_text()
        life.unlink()
        if content is not None:
            life.write_text(content)
        running.append([authors.say("ann")])
        assert life.read_text() == before
        assert held(killed(home, home.with_name("killed"))) == 3

    def test_a_number_that_has_changed_on_the_disk_refuses_nothing(
        self, home: Path, running: Log
    ) -> None:
        """It would have, and the advice would have been to remove the WAL."""
        assert running.load().heads
        for at in range(18):
            place = killed(home, home.with_name(f"killed {at}"))
            life = bytearray((place / "flc.db-life").read_bytes())
            life[at] ^= 1
            (place / "flc.db-life").write_bytes(life)
            assert held(place) == 2

    def test_a_wal_that_was_deleted_is_folded_in_at_the_end(self, home: Path, running: Log) -> None:
        """What was acknowledged is not lost with it, if the node stops in order."""
        (home / "flc.db-wal").unlink()
        running.close()
        assert held(home) == 2


def test_a_first_start_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    """SQLite was making the file; its journal is there, and only a writer may undo that."""
    path = tmp_path / "flc.db"
    maker = sqlite3.connect(path, isolation_level=None)
    maker.execute("PRAGMA cache_size = 1")
    maker.execute("PRAGMA auto_vacuum = INCREMENTAL")
    maker.execute("BEGIN IMMEDIATE")
    maker.execute("CREATE TABLE half (a)")
    maker.executemany("INSERT INTO half VALUES (?)", [(os.urandom(900),)] * 50)
    assert (tmp_path / "flc.db-journal").stat().st_size
    left = tmp_path / "left"
    left.mkdir()
    for file in tmp_path.glob("flc.db*"):
        shutil.copy(file, left)
    maker.close()

    assert held(left) == 0


def test_the_files_are_their_owners_alone(tmp_path: Path) -> None:
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        with closing(Log.open(tmp_path / "flc.db")), closing(sqlite3.connect(tmp_path / "flc.db")):
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("flc.db", "flc.db-wal", "flc.db-shm", "flc.db-life"), 0o600)
