"""`flc backup`: what it prints. What is in the copy, is tested with the store."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from flc_udp.core.standing import Standing
from flc_udp.store.log import Log
from tests.cli.down import directory_of
from tests.cli.fake import Flc
from tests.model.stories import Story

STEPS = [(author, "lobby", n or None) for n in range(30) for author in ("ann", "bob")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a node that is down."""
    return directory_of(tmp_path, Story(STEPS).said)


async def test_a_line_of_what_was_copied(flc: Flc, data: Path, tmp_path: Path) -> None:
    """Messages, bytes and root, as the copy has them; the same as JSON."""
    with closing(Log.open(data / "flc.db")) as log:
        root = Standing(log.load().heads).table.root.hex()
    copy = tmp_path / "copy"
    ended = await flc("backup", str(copy), "--data", str(data))
    size = copy.stat().st_size
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"60 messages, {size} bytes, root {root}\n"

    ended = await flc("backup", "--force", "--json", str(copy), "--data", str(data))
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {
        "messages": 60,
        "bytes": size,
        "root": root,
        "path": str(copy),
    }


@pytest.mark.parametrize("words", [("copy",), ("-",)])
async def test_refused_in_two_lines(
    flc: Flc, data: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """A directory without a log; and stdout, where nothing can be checked before it is there."""
    monkeypatch.chdir(data)
    ended = await flc("backup", *words, "--data", str(data / "nowhere"))

    assert (ended.code, ended.out) == (1, "")
    error, hint = ended.err.splitlines()
    assert (error[:7], hint[:6]) == ("error: ", "hint: ")
    assert sorted(os.listdir(data)) == ["flc.db", "flc.db-life"]  # noqa: PTH208  # names are what is compared


async def test_help_says_how_to_restore(capsys: pytest.CaptureFixture[str]) -> None:
    """The other half of a backup stands beside it."""
    from flc_udp.cli.main import main  # noqa: PLC0415

    with pytest.raises(SystemExit):
        main(["backup", "--help"])
    assert "to restore:" in capsys.readouterr().out
