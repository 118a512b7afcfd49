import grp
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import flc_udp
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import (
    SOCKET_PATH_BYTES_MAX,
    DataDirectory,
    default_directory,
    give_to,
)

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


class TestSocket:
    def test_a_short_path_is_used_as_it_is(self, tmp_path: Path) -> None:
        """The socket is in the data directory, and what an earlier run left is cleared."""
        directory = DataDirectory(tmp_path)
        assert len(bytes(tmp_path)) < SOCKET_PATH_BYTES_MAX - 13
        (tmp_path / "control.sock").touch()
        path = directory.socket_path()
        assert path == tmp_path / "control.sock"
        assert not path.exists()
        directory.release()

    def test_a_long_path_is_reached_by_a_short_one(self, tmp_path: Path) -> None:
        """Server and client meet at a path a socket can have, in a directory of the user's own."""
        long = tmp_path / ("d" * 100)
        directory = DataDirectory(long)
        for _ in range(2):  # the second time over what the first left
            path = directory.socket_path()
            with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
                server.bind(str(path))
                server.listen()
                client.connect(os.path.realpath(long / "control.sock"))
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        directory.remove_socket()
        assert not path.parent.exists()
        assert not (long / "control.sock").is_symlink()
        directory.release()

    def test_a_short_path_others_can_reach_is_refused(self, tmp_path: Path) -> None:
        """A directory that stands there with open doors is no place for the control socket."""
        directory = DataDirectory(tmp_path / ("d" * 100))
        path = directory.socket_path()
        path.parent.chmod(0o777)
        with pytest.raises(FlcError, match=f"{path.parent}, .* is not this user's alone"):
            directory.socket_path()
        path.parent.rmdir()
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


def test_a_socket_that_is_the_groups_already_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sandbox may forbid it; by name and by number."""
    path = tmp_path / "control.sock"
    path.touch(0o600)
    number = path.stat().st_gid
    monkeypatch.setattr(os, "chown", lambda *_: pytest.fail("it was changed"))
    for group in (str(number), grp.getgrgid(number).gr_name):
        path.chmod(0o600)
        give_to(path, group)
        assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(FlcError, match="no-such-group") as refused:
        give_to(path, "no-such-group")
    assert refused.value.hint
