"""A forked `flc` is what a started one is."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from flc_udp.cli.run.cluster import FLC, clean_environment
from tests.forks import forked

LIMIT_S = 45.0


@pytest.mark.parametrize(
    ("line", "stdin", "environ"),
    [
        ("", b"", {}),
        ("--version", b"", {}),
        ("caf\udce9", b"", {}),
        ("status --data none", b"", {}),
        ("config", b"", {"FLC_NAME": "\u00e4nn", "FLC_LINKS_MAX": "9"}),
        ("run --bind 0.0.0.0:1 --data here", b"", {}),
        ("import - --data new", b"no export\n", {}),
        ("udp --decode", b"00ff\nzz\n", {}),
    ],
)
async def test_it_ends_as_a_started_one(
    tmp_path: Path, line: str, stdin: bytes, environ: dict[str, str]
) -> None:
    """With the same words, streams, variables and directory: the same output and exit code."""
    environ = {**clean_environment(), **environ}
    started = await asyncio.to_thread(
        subprocess.run, [*FLC, *line.split()],
        input=stdin, env=environ, cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    ended = await forked(*line.split(), stdin=stdin, environ=environ, cwd=tmp_path, limit_s=LIMIT_S)

    assert ended == (started.returncode, started.stdout, started.stderr)


async def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    """The directory is free again: a second node is not refused it, but runs on as the first."""
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await forked(
                *("run", "--bind", "127.0.0.1:0", "--data", str(tmp_path / "data")),
                environ=clean_environment(), limit_s=3,
            )  # fmt: skip
