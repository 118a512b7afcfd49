"""`flc run`: hands what was typed to the daemon, which finds the rest of its settings elsewhere.

The flags are settings of `config.Settings`; their names and reasons are read from there.
"""

import argparse
import os
from dataclasses import Field
from typing import Any

from flc_udp.config import SETTINGS, flag_of

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
