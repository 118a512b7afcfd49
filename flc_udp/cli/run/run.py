"""`flc run`: hands what was typed to the daemon. `flc config`: prints settings as TOML.

The flags and the lines of the file are the settings of `config.Settings`: names, defaults, reasons
and limits are read from there, so they are always the ones that are checked.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import Field
from textwrap import wrap
from typing import Any

import orjson

from flc_udp.config import PROFILES, RELOADED_NAMES, SETTINGS, TITLES, Settings, flag_of
from flc_udp.model.errors import FlcError

FLAGS = {
    "name": "NAME",
    "data": "DIR",
    "bind": "HOST:PORT",
    "advertise": "HOST:PORT",
    "join": "HOST:PORT",
    "tags": "KEY=VALUE",
    "cluster": "NAME",
    "key_file": "FILE",
    "insecure": "",
    "profile": "",
    "log_format": "",
    "log_level": "",
    "on_message": "CMD",
    "on_member": "CMD",
    "control_group": "GROUP",
    "metrics": "HOST:PORT",
}
"""The settings that can be typed, and what stands for their value in the help."""

COLUMNS = 88

HEAD = """Every setting of a node, with its default. Take the # from a line to change the setting.
Flags of `flc run` and variables FLC_NAME have priority over this file; `flc config --config FILE`
tells what is wrong with it."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; a flag that is not typed leaves it to the lower sources."""
    parser.add_argument("--config", metavar="FILE.toml", help="settings by their names, in TOML")
    for name, metavar in FLAGS.items():
        parser.add_argument(flag_of(name), **_flag(SETTINGS[name], metavar))


def _flag(setting: Field[Any], metavar: str) -> dict[str, Any]:
    why = setting.metadata["why"].replace("%", "%%")
    shared = {"dest": setting.name, "default": argparse.SUPPRESS, "help": why}
    if setting.default is False:
        return {**shared, "action": "store_true"}
    if setting.metadata["allowed"]:
        return {**shared, "choices": setting.metadata["allowed"]}
    if isinstance(setting.default, tuple):  # It is a list, which is typed item by item.
        return {**shared, "metavar": metavar, "action": "append", "help": f"{why}; may be repeated"}
    return {**shared, "metavar": metavar}


def run(args: argparse.Namespace) -> int:
    """Run the daemon until it leaves or is stopped."""
    from flc_udp.daemon import run as daemon
    from flc_udp.daemon import settings

    # SIGHUP calls it again, when the file may say something else.
    return daemon.main(lambda: settings.load(args.config, os.environ, overrides(args)))


def overrides(args: argparse.Namespace) -> dict[str, object]:
    """Give the settings that were typed."""
    return {name: value for name, value in vars(args).items() if name in FLAGS}


# --- flc config -----------------------------------------------------------------------------------


def add_config(parser: argparse.ArgumentParser) -> None:
    """`flc config [--example] [--config FILE.toml]`."""
    about = "check this file, and print what it changes"
    parser.add_argument("--example", action="store_true", help="an annotated file of all settings")
    parser.add_argument("--config", metavar="FILE.toml", help=about)


def config(args: argparse.Namespace) -> None:
    """Print the example, or the settings that the environment and a file change."""
    for line in example() if args.example else changed(args.config):
        print(line)


def example() -> Iterator[str]:
    """Write a file with every setting, its reason and what is allowed."""
    yield from _comment(HEAD)
    for setting in SETTINGS.values():
        if title := TITLES.get(setting.name):
            yield f"\n\n# --- {title} {'-' * (COLUMNS - len(title) - 7)}"
        yield ""
        yield from _comment("; ".join([setting.metadata["why"], *_allowed(setting)]))
        yield f"#{setting.name} = {_toml(getattr(Settings(), setting.name))}"


def changed(config_file: str | None) -> Iterator[str]:
    """Write the settings that are not the default; raises FlcError for what is not allowed."""
    from flc_udp.daemon import settings

    default, found = Settings(), settings.load(config_file, os.environ, {})
    for variable, hint in settings.unknown_variables(os.environ):
        yield from _comment(f"{variable} is in the environment and no setting: {hint}")
    for setting in SETTINGS.values():
        value = getattr(found, setting.name)
        if value != getattr(default, setting.name):
            yield f"{setting.name} = {_toml(value)}"


def _allowed(setting: Field[Any]) -> Iterator[str]:
    allowed = setting.metadata["allowed"]
    if allowed and isinstance(setting.default, str):
        yield "one of " + ", ".join(allowed)
    elif allowed:
        low, high = allowed
        yield f"{'0 or ' if setting.metadata['off'] else ''}{low} to {high}"
    if setting.name in RELOADED_NAMES:
        yield "SIGHUP reloads it"
    for name, profile in PROFILES.items():
        if setting.name in profile:
            yield f"profile {name}: {profile[setting.name]}"


def _toml(value: object) -> str:
    """Write a value: booleans, numbers, texts and lists of texts look in TOML as in JSON."""
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        problem = f"{value!r} is not Unicode, which all of a TOML file has to be"
        raise FlcError(problem, "give it by a flag or in the environment") from error


def _comment(words: str) -> Iterator[str]:
    return (f"# {line}" for line in wrap(words, COLUMNS - 2))
