"""Fixtures: a fake daemon, and `flc` in this process or in one of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from flc_udp.cli.main import main
from tests.cli.fake import DEADLINE_S, Ended, FakeDaemon, Flc, Spawn
from tests.forks import forked


@pytest.fixture
async def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeDaemon]:
    """Start a fake daemon in a directory that FLC_DATA names."""
    monkeypatch.setenv("FLC_DATA", str(tmp_path))
    fake = FakeDaemon(tmp_path)
    await fake.start()
    yield fake
    fake.drop_all()


@pytest.fixture
def flc(capfd: pytest.CaptureFixture[str]) -> Flc:
    """Run `flc` in a thread of this process, with these words."""

    async def run(*words: str) -> Ended:
        code = await asyncio.to_thread(main, words)
        captured = capfd.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Start `flc` as a process with pipes, which ends with the test."""
    started: list[asyncio.subprocess.Process] = []

    async def run(*words: str, **options: int) -> asyncio.subprocess.Process:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | options
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "flc_udp", *words, **pipes
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def nc() -> Flc:
    """Run `flc nc` to its end, with stdin in a pipe."""

    async def run(*words: str, stdin: bytes = b"") -> Ended:
        code, out, err = await forked(
            "nc", *words, stdin=stdin, environ=os.environ, limit_s=DEADLINE_S
        )
        return Ended(code, out.decode(errors="surrogateescape"), err.decode())

    return run
