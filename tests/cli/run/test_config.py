"""`flc config`: the daemon takes the example, which has all of today's settings."""

import dataclasses
import tomllib
from pathlib import Path

import pytest

from flc_udp.cli.main import main
from flc_udp.cli.run.run import example
from flc_udp.config import PROFILES, RELOADED_NAMES, SETTINGS, TITLES, Settings
from flc_udp.daemon import settings


def uncommented() -> str:
    """Give the example with every setting in force."""
    names = tuple(f"#{setting.name} = " for setting in dataclasses.fields(Settings))
    return "\n".join(
        line.removeprefix("#") if line.startswith(names) else line for line in example()
    )


def test_the_example_is_all_comment() -> None:
    """The example as it is printed changes nothing."""
    assert tomllib.loads("\n".join(example())) == {}


def test_the_example_has_every_setting_with_its_default(tmp_path: Path) -> None:
    """Without its # each line is taken by the daemon, and gives the default."""
    path = tmp_path / "flc.toml"
    path.write_text(uncommented())

    assert list(tomllib.loads(uncommented())) == list(SETTINGS)
    assert settings.load(str(path), {}, {}) == Settings()


def test_the_titles_stand_in_the_order_of_the_settings() -> None:
    """Each title belongs to a setting, so the example has all of them."""
    titles = [line.split(" ", 3)[2] for line in example() if line.strip().startswith("# --- ")]

    assert titles == [title.partition(" ")[0] for title in TITLES.values()]


def test_it_says_what_a_profile_changes() -> None:
    """The example names the values of the profiles."""
    text = " ".join(line.removeprefix("# ") for line in example())

    assert f"profile wan: {PROFILES['wan']['suspect_timeout_ms']}" in text


def test_it_says_what_a_running_node_follows() -> None:
    """The example says it of each setting that SIGHUP reloads, and of no other."""
    paragraphs = "\n".join(example()).split("\n\n")
    followed = {
        line.partition(" ")[0].removeprefix("#")
        for paragraph in paragraphs
        if "SIGHUP reloads it" in paragraph.replace("\n# ", " ")
        for line in paragraph.splitlines()
        if " = " in line and line[1] != " "
    }

    assert followed == set(RELOADED_NAMES)


def test_what_is_changed_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a file, the environment or a profile changes is printed, as TOML."""
    path = tmp_path / "flc.toml"
    path.write_text('name = "ann \\u00e9"\nprofile = "local"\njoin = ["a:1", "b:2"]\n')
    monkeypatch.setenv("FLC_LINKS_MAX", "9")

    assert main(["config", "--config", str(path)]) == 0
    changed = tomllib.loads(capsys.readouterr().out)
    assert changed["links_max"] == 9
    assert changed["name"] == "ann é"
    assert changed["join"] == ["a:1", "b:2"]
    assert changed["probe_interval_ms"] == PROFILES["local"]["probe_interval_ms"]


def test_a_path_that_is_no_unicode_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TOML cannot name it, and a file that names another path would be believed."""
    monkeypatch.setenv("FLC_DATA", "/caf\udce9")

    assert main(["config"]) == 1
    assert capsys.readouterr() == (
        "",
        (
            "error: '/caf\\udce9' is not Unicode, which all of a TOML file has to be\n"
            "hint: give it by a flag or in the environment\n"
        ),
    )


def test_what_cannot_be_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is told as `flc run` would tell it, and nothing is started."""
    path = tmp_path / "flc.toml"
    path.write_text("linksmax = 9\n")

    assert main(["config", "--config", str(path)]) == 1
    assert "did you mean links_max?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("bind", '"127.0.0.1:70000"'),
        ("advertise", '"ann"'),
        ("metrics", '"9100"'),
        ("join", '["ann:7352", "ben"]'),
    ],
)
def test_an_address_that_is_none_is_told_with_its_place(
    key: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check refuses an address that would make a start fail."""
    path = tmp_path / "flc.toml"
    path.write_text(f"{key} = {said}\n")

    assert main(["config", "--config", str(path)]) == 1
    told = capsys.readouterr().err
    assert f"error: {path}: {key}: " in told
    assert "write HOST:PORT" in told
