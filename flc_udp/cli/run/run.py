"""`flc run`: hands what was typed to the daemon, which knows the rest of its settings.

The flags are settings of `config.Settings` under their own names, with their own reasons.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import Field, fields
from typing import Any

from flc_udp.config import Settings, flag_of

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
"""Settings that can be typed, with what stands for their value in the help."""

LISTS = ("join", "tags")
"""Of them, those typed item by item."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """One flag a setting; what is not typed is not there, so that lower sources can speak."""
    parser.add_argument("--config", metavar="FILE.toml", help="settings by their names, in TOML")
    settings = {setting.name: setting for setting in fields(Settings)}
    for name, metavar in FLAGS.items():
        parser.add_argument(flag_of(settings[name]), **_flag(settings[name], metavar))


def _flag(setting: Field[Any], metavar: str) -> dict[str, Any]:
    why = setting.metadata["why"].replace("%", "%%")
    shared = {"dest": setting.name, "default": argparse.SUPPRESS, "help": why}
    if setting.default is False:
        return {**shared, "action": "store_true"}
    if setting.metadata["choices"]:
        return {**shared, "choices": setting.metadata["choices"]}
    if setting.name in LISTS:
        return {**shared, "metavar": metavar, "action": "append", "help": f"{why}; may be repeated"}
    return {**shared, "metavar": metavar}


def run(args: argparse.Namespace) -> int:
    """Run the daemon until it leaves or is stopped."""
    from flc_udp.daemon import run as daemon
    from flc_udp.daemon import settings

    # Called again on SIGHUP, when the file may say something else.
    return daemon.main(lambda: settings.load(args.config, os.environ, overrides(args)))


def overrides(args: argparse.Namespace) -> dict[str, object]:
    """What was typed, by the names of `config.Settings`."""
    typed = {name: value for name, value in vars(args).items() if name in FLAGS}
    return {name: tuple(value) if name in LISTS else value for name, value in typed.items()}
