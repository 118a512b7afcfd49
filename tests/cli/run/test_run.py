"""`flc run`: what is typed reaches the daemon's settings, and nothing else does."""

from __future__ import annotations

import argparse

import pytest

from flc_udp.cli.run.run import FLAGS, add_run, overrides
from flc_udp.config import SETTINGS


def parsed(*words: str) -> argparse.Namespace:
    """Parse a command line."""
    parser = argparse.ArgumentParser()
    add_run(parser)
    return parser.parse_args(words)


def test_only_what_is_typed_overrides() -> None:
    """A flag that is not typed changes nothing."""
    assert overrides(parsed()) == {}
    assert overrides(parsed("--config", "flc.toml")) == {}


def test_flags_are_settings() -> None:
    """Each flag is a setting of the same name, with a value of its kind."""
    args = parsed(
        *("--name", "ann", "--join", "a:1", "--join", "b:2", "--insecure", "--key-file", "k"),
        *("--tag", "role=db", "--tag", "dc=eu"),
    )

    assert overrides(args) == {
        "name": "ann",
        "join": ["a:1", "b:2"],
        "insecure": True,
        "key_file": "k",
        "tags": ["role=db", "dc=eu"],
    }


@pytest.mark.parametrize("name", FLAGS)
def test_every_flag_is_a_setting(name: str) -> None:
    """No flag is unknown to the settings."""
    assert name in SETTINGS
