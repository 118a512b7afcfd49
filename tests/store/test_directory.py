import errno
import fcntl
import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import flc_udp
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import SOCKET_PATH_BYTES_MAX, DataDirectory, default_directory
from flc_udp.store.rights import OWN_FILES

ROOT = Path(flc_udp.__file__).parents[1]

HOLDS_IT = """
import sys
from flc_udp.store.directory import DataDirectory

directory = DataDirectory(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """The directory and the parents that were missing get mode 0700."""
    directory = DataDirectory(tmp_path / "a" / "b")
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert directory.database == tmp_path / "a" / "b" / "flc.db"
    assert directory.free_bytes() > 0
    directory.release()


def test_two_processes_cannot_have_one_directory(tmp_path: Path) -> None:
    """The second is told who has it; once the first is killed, the directory is free."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS_IT, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FlcError, match=f"{tmp_path} is in use .* process {process.pid}") as e:
            DataDirectory(tmp_path)
        assert e.value.hint
        process.kill()
    DataDirectory(tmp_path).release()


def test_a_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A program started by the node does not inherit the lock."""
    directory = DataDirectory(tmp_path)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):  # noqa: S607
        directory.release()
        DataDirectory(tmp_path).release()


def test_a_released_directory_is_free(tmp_path: Path) -> None:
    """The same process may take it again, and not twice at once."""
    directory = DataDirectory(tmp_path)
    with pytest.raises(FlcError, match=f"process {os.getpid()}"):
        DataDirectory(tmp_path)
    directory.release()
    DataDirectory(tmp_path).release()


def test_a_place_that_is_no_directory_is_named(tmp_path: Path) -> None:
    """A file in the way, at the end of the path or before it, is an FlcError with a hint."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FlcError, match=f"{path} cannot be used: Not a directory") as caught:
            DataDirectory(path)
        assert "--data" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_one_may_not_write_is_refused(tmp_path: Path) -> None:
    """No permission is an FlcError that names the directory."""
    tmp_path.chmod(0o500)
    with pytest.raises(FlcError, match=f"{tmp_path} cannot be used: Permission denied"):
        DataDirectory(tmp_path)


def test_a_kernels_directory_is_refused() -> None:
    """Where nothing can be made, by root either, the error names the place."""
    with pytest.raises(FlcError, match="/proc/flc cannot be used: "):
        DataDirectory("/proc/flc")


def umasks() -> Iterator[int]:
    """Set each of these as the umask of this process, for one turn of a loop."""
    before = os.umask(0)
    try:
        for umask in (0, 0o022, 0o077):
            os.umask(umask)
            yield umask
    finally:
        os.umask(before)


def modes(path: Path) -> dict[str, int]:
    """The rights of what lies in a directory."""
    return {p.name: stat.S_IMODE(p.lstat().st_mode) for p in path.iterdir()}


class TestSocket:
    def test_it_is_its_owners_alone_whatever_the_umask(self, tmp_path: Path) -> None:
        """What an earlier run left there is cleared."""
        for umask in umasks():
            directory = DataDirectory(tmp_path / "d" / str(umask))
            (directory.path / "control.sock").touch()
            directory.bind_control().close()
            assert modes(directory.path) == {"lock": 0o600, "control.sock": 0o600}
            assert modes(tmp_path) == {"d": 0o700}
            directory.remove_socket()
            assert modes(directory.path) == {"lock": 0o600}
            directory.release()

    @pytest.mark.parametrize("more", [-1, 0, 1, 100])
    def test_it_lies_in_the_directory_however_long_its_path_is(
        self, tmp_path: Path, more: int
    ) -> None:
        """So nothing of it is where a private /tmp hides it, or where others could make it."""
        length = SOCKET_PATH_BYTES_MAX + more - len(os.fsencode(tmp_path)) - len("//control.sock")
        directory = DataDirectory(tmp_path / ("d" * length))
        for _ in range(2):  # The second time over what the first left.
            with directory.bind_control() as server, socket.socket(socket.AF_UNIX) as client:
                server.listen()
                inside = os.open(directory.path, os.O_PATH)
                client.connect(f"/proc/self/fd/{inside}/control.sock")
                os.close(inside)
        assert modes(directory.path) == {"lock": 0o600, "control.sock": 0o600}
        directory.release()

    def test_a_place_that_is_taken_is_named(self, tmp_path: Path) -> None:
        """A directory under the socket's name is an FlcError, and no traceback."""
        directory = DataDirectory(tmp_path)
        (tmp_path / "control.sock").mkdir()
        with pytest.raises(FlcError, match=f"{tmp_path}/control.sock is a directory") as caught:
            directory.bind_control()
        assert caught.value.hint
        directory.remove_socket()  # As a start that failed does: it is not ours.
        assert (tmp_path / "control.sock").is_dir()
        directory.release()


def as_member(group: int, act: Callable[[], object]) -> str:
    """What comes of an act of a user who is nobody here but a member of this group."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([group])
            os.setgid(65_533)
            os.setuid(65_533)
            act()
            code = 0
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return errno.errorcode.get(code, "") if code else "done"


def connect(path: str) -> None:
    """Connect to a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


OUR_GROUP, OTHER_GROUP = 12_345, 54_321


class TestGroup:
    """--control-group: others can pass to the socket, and use nothing else."""

    def test_the_directory_lets_the_group_pass(self, tmp_path: Path) -> None:
        """Parents that the node made let it pass, too, and parents that were there do not change.

        A run without a group takes it back.
        """
        tmp_path.chmod(0o700)
        group = grp.getgrgid(tmp_path.stat().st_gid).gr_name
        for umask in umasks():
            directory = DataDirectory(tmp_path / str(umask) / "d", group)
            directory.bind_control().close()
            made = {"lock": 0o600, "control.sock": 0o660}
            assert modes(directory.path) == made
            assert modes(directory.path.parent) == {"d": 0o710}
            assert modes(tmp_path)[str(umask)] == 0o710
            assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
            directory.release()
            DataDirectory(directory.path).release()
            assert modes(directory.path.parent) == {"d": 0o700}

    def test_what_an_earlier_release_left_open_is_closed(self, tmp_path: Path) -> None:
        """The node's files alone: what an operator put there is not touched."""
        for name in (*OWN_FILES, "notes"):
            (tmp_path / name).touch()
            (tmp_path / name).chmod(0o644)
        (tmp_path / "flc.db").unlink()
        (tmp_path / "flc.db").symlink_to(tmp_path / "notes")
        DataDirectory(tmp_path).release()
        closed = modes(tmp_path)
        assert closed.pop("notes") == 0o644
        del closed["flc.db"]
        assert set(closed.values()) == {0o600}

    @pytest.mark.parametrize("group", ["no-such-group", "-1", "games "])
    def test_an_unknown_group_is_refused_before_anything_is_made(
        self, tmp_path: Path, group: str
    ) -> None:
        """The error names it, with a hint."""
        with pytest.raises(FlcError, match=group) as refused:
            DataDirectory(tmp_path / "d", group)
        assert refused.value.hint
        assert modes(tmp_path) == {}

    def test_what_fits_already_is_not_changed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A sandbox may forbid to change a group; by name and by number."""
        number = tmp_path.stat().st_gid
        monkeypatch.setattr(os, "chown", lambda *_: pytest.fail("it was changed"))
        for group in (str(number), grp.getgrgid(number).gr_name):
            directory = DataDirectory(tmp_path, group)
            directory.bind_control().close()
            assert modes(tmp_path)["control.sock"] == 0o660
            directory.release()

    def test_a_directory_that_others_pass_anyway_stays_as_it_is(self, tmp_path: Path) -> None:
        """A mount may belong to somebody else, and could not be changed."""
        tmp_path.chmod(0o755)
        DataDirectory(tmp_path, "4321").release()
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may give to any group")
    def test_a_group_that_cannot_be_given_is_refused(self, tmp_path: Path) -> None:
        """The directory is free afterwards."""
        tmp_path.chmod(0o700)
        foreign = next(g for g in range(60_000, 61_000) if g not in os.getgroups())
        with pytest.raises(FlcError, match=f"cannot be given to group {foreign}"):
            DataDirectory(tmp_path, str(foreign))
        DataDirectory(tmp_path).release()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    @pytest.mark.parametrize("name", ["d", "d" * 150])
    def test_its_members_reach_the_socket_and_nothing_else(self, tmp_path: Path, name: str) -> None:
        """Through a long path, too; others do not reach it at all."""
        above = os.open(tmp_path, os.O_PATH)
        directory = DataDirectory(tmp_path / name, str(OUR_GROUP))
        directory.database.touch(0o600)
        place = f"/proc/self/fd/{above}/{name}"
        inside = os.open(place, os.O_PATH)
        with directory.bind_control() as server:
            server.listen()
            reach = partial(connect, f"/proc/self/fd/{inside}/control.sock")
            assert as_member(OUR_GROUP, reach) == "done"
            assert as_member(OTHER_GROUP, reach) == "EACCES"
            assert as_member(OUR_GROUP, partial(os.listdir, place)) == "EACCES"
            read = partial(os.open, f"{place}/flc.db", os.O_RDONLY)
            assert as_member(OUR_GROUP, read) == "EACCES"
        for descriptor in (above, inside):
            os.close(descriptor)
        directory.release()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"FLC_DATA": "/d", "STATE_DIRECTORY": "/s", "HOME": "/h"}, "/d"),
        ({"STATE_DIRECTORY": "/s:/t", "XDG_STATE_HOME": "/x", "HOME": "/h"}, "/s"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/flc"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/flc"),
        ({"FLC_DATA": "", "HOME": "/h"}, "/h/.local/state/flc"),
    ],
)
def test_a_daemons_directory_by_default(environ: dict[str, str], expected: str) -> None:
    """FLC_DATA, then systemd's STATE_DIRECTORY, then the user's state directory."""
    assert Path(expected) == default_directory(environ)


def test_a_lock_that_was_deleted_locks_all_the_same(tmp_path: Path) -> None:
    """The directory itself is locked, too, and nothing is made in it by who is refused."""
    directory = DataDirectory(tmp_path)
    (tmp_path / "lock").unlink()
    with pytest.raises(FlcError, match=f"{tmp_path} is in use by a running node, process unknown"):
        DataDirectory(tmp_path)
    assert list(tmp_path.iterdir()) == []
    directory.release()
    DataDirectory(tmp_path).release()


def test_a_lock_of_a_version_that_did_not_lock_the_directory_counts(tmp_path: Path) -> None:
    """Who holds only the file is told of, too."""
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FlcError, match="in use by a running node"):
            DataDirectory(tmp_path)
    DataDirectory(tmp_path).release()


def test_a_socket_that_lost_its_name_is_seen(tmp_path: Path) -> None:
    """Deleted or replaced; not where the directory itself is gone or another one."""
    data = tmp_path / "data"
    directory = DataDirectory(data)
    control = data / "control.sock"
    assert not directory.has_lost_control()
    with directory.bind_control():
        assert not directory.has_lost_control()
        control.unlink()
        assert directory.has_lost_control()
        control.touch()
        assert directory.has_lost_control()
        with directory.bind_control():
            assert not directory.has_lost_control()
            data.rename(tmp_path / "moved")
            assert not directory.has_lost_control()
            data.mkdir()
            assert not directory.has_lost_control()
    directory.release()
