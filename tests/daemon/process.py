"""`flc` as a process, and waiting for what processes do.

Nothing here waits for a fixed time: `until` looks at a condition again and again, to a deadline
that a loaded machine keeps too.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flc_udp.cli.run.cluster import FLC, clean_environment
from tests.forks import forked

DEADLINE_S = 45.0
"""Nothing takes a tenth of it on a quiet machine."""

POLL_S = 0.02

Found = TypeVar("Found")


class Ended(NamedTuple):
    """How a command ended: exit code, stdout as it is, stderr as text."""

    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Its output, one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


async def until(
    claim: str, look: Callable[[], Awaitable[Found]], seconds: float = DEADLINE_S
) -> Found:
    """Look until there is something true to see, and return it; the deadline fails the test."""
    deadline = time.monotonic() + seconds
    while True:
        if found := await look():
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {claim} ({found!r})"
        await asyncio.sleep(POLL_S)


def lines(path: Path) -> list[str]:
    """The whole lines of a file that commands add to."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


async def have(path: Path, count: int) -> list[str]:
    """Wait until there are so many."""

    async def look() -> list[str]:
        found = lines(path)
        return found if len(found) >= count else []

    return await until(f"{count} lines in {path.name}", look)


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def assert_refused(ended: Ended, *words: str) -> None:
    """Exit code 1, nothing on stdout, one error and one hint line, with these words in them."""
    assert (ended.code, ended.out) == (1, b""), ended
    error, hint = ended.err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert len(hint) > len("hint: ")
    for word in words:
        assert word in ended.err


async def run_flc(
    *words: str,
    stdin: bytes = b"",
    environ: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
) -> Ended:
    """Run `flc`, perhaps under another command, to its end, which must come before the deadline."""
    environ = {**clean_environment(), **(environ or {})}
    if under:
        return await _run_under(under, words, environ)
    try:
        code, out, err = await forked(*words, stdin=stdin, environ=environ, limit_s=DEADLINE_S)
    except TimeoutError:
        raise AssertionError(f"flc {' '.join(words)} does not end") from None
    return Ended(code, out, err.decode())


async def _run_under(
    under: Sequence[str], words: Sequence[str], environ: Mapping[str, str]
) -> Ended:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *under, *FLC, *words, env=environ, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(b""), DEADLINE_S)
    except TimeoutError:
        process.kill()
        raise AssertionError(f"flc {' '.join(words)} does not end") from None
    assert process.returncode is not None
    return Ended(process.returncode, out, err.decode())
