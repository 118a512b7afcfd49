"""Reads the settings from flags, the environment, a file and the defaults; the first of them wins.

The names, types and limits are those of `config.Settings`. A profile only changes defaults, so a
setting that is given anywhere overrides it.
"""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flc_udp.config import PROFILES, RELOADED_NAMES, SETTINGS, Settings, flag_of
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.model.tags import parse_tags

ENVIRONMENT_PREFIX = "FLC_"

DIGITS_MAX = 20
"""The most digits of a number in a variable. Every setting has fewer."""

ANY_BYTES = ("data", "key_file", "on_message", "on_member")
"""Paths and commands. The system takes them as they were typed, in any encoding."""

ADDRESSES = ("bind", "advertise", "metrics", "join")
"""Settings that are HOST:PORT. The host may be a name, which is looked up only when needed."""

TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def load(
    config_file: str | None, environ: Mapping[str, str], overrides: Mapping[str, object]
) -> Settings:
    """The settings of a node; raises FlcError naming the place, the key and what is allowed."""
    said: dict[str, Any] = {}
    if config_file is not None:
        for key, value in _read_file(config_file).items():
            if key not in SETTINGS:
                raise FlcError(f"{config_file}: unknown key {key!r}", _hint(key, list(SETTINGS)))
            said[key] = _check(key, value, f"{config_file}: {key}")
    for name in SETTINGS:
        key = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(key):
            said[name] = _check(name, _from_text(name, environ[key]), key)
    for name, value in overrides.items():
        said[name] = _check(name, value, flag_of(name))
    profile = said.get("profile", Settings().profile)
    return Settings(**{**PROFILES[profile], **said})


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """[(variable, hint)] for each variable that begins like a setting's and is none.

    This is no error, because an orchestrator makes variables of its own from the names of services.
    """
    known = {ENVIRONMENT_PREFIX + name.upper() for name in SETTINGS}
    return [
        (variable, _hint(variable, sorted(known)))
        for variable in sorted(environ)
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known
    ]


def reload(in_force: Settings, found: Settings) -> tuple[Settings, list[str], list[str]]:
    """Take those changes from `found` that a running node can follow.

    Return the settings that are in force from now on, the names of those that changed, and the
    names of those that differ and that a node follows only when it starts.
    """
    differing = [n for n in SETTINGS if getattr(in_force, n) != getattr(found, n)]
    changed = [name for name in differing if name in RELOADED_NAMES]
    settings = dataclasses.replace(in_force, **{name: getattr(found, name) for name in changed})
    return settings, changed, [name for name in differing if name not in changed]


def _read_file(config_file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(config_file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FlcError(
            f"cannot read {config_file}: {reason}", "give a readable TOML file with --config"
        ) from error
    except (ValueError, RecursionError) as error:
        # A number or a nesting that is too large is such an error, too.
        raise FlcError(
            f"{config_file} is not TOML: {error}", 'a setting is a line like: name = "ada"'
        ) from error


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else "allowed are: " + ", ".join(known)


def _from_text(name: str, text: str) -> object:
    """The value of an environment variable, by the type of the setting."""
    default = SETTINGS[name].default
    if isinstance(default, bool):
        return TRUTH.get(text.lower(), text)
    if isinstance(default, int):
        is_number = re.fullmatch(f"-?[0-9]{{1,{DIGITS_MAX}}}", text)
        return int(text) if is_number else text
    if isinstance(default, tuple):
        return tuple(text.replace(",", " ").split())
    return text


def _check(name: str, value: object, where: str) -> object:
    """The value, if it has the setting's type and is within its limits; raises FlcError."""
    setting = SETTINGS[name]
    if isinstance(setting.default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise FlcError(f"{where} is {value!r}", "a list of texts is allowed")
        _check_texts(name, value, where)
        return tuple(value)
    if type(value) is not type(setting.default):
        kind = {bool: "true or false", int: "a whole number", str: "a text"}[type(setting.default)]
        raise FlcError(f"{where} is {value!r}", f"{kind} is allowed")
    if isinstance(value, str):
        _check_texts(name, (value,), where)
    limits = setting.metadata
    allowed, is_off = limits["allowed"], limits["off"] and value == 0
    if type(value) is int and not is_off:
        low, high = allowed
        if not low <= value <= high:
            span = f"{'0 or ' if limits['off'] else ''}{low} to {high}"
            raise FlcError(f"{where} is {value}", f"{span} is allowed: {limits['why']}")
    if isinstance(value, str) and allowed and value not in allowed:
        raise FlcError(f"{where} is {value!r}", "allowed are: " + ", ".join(allowed))
    return value


def _check_texts(name: str, texts: Sequence[str], where: str) -> None:
    """Check that texts are UTF-8, addresses are addresses or empty, and tags are tags."""
    for text in texts:
        # Python reads bytes that are not UTF-8 as lone surrogates.
        if name not in ANY_BYTES and text != text.encode(errors="replace").decode():
            raise FlcError(f"{where} is {text!r}", "valid Unicode text is allowed")
    try:
        if name == "tags":
            parse_tags(texts)
        for address in texts if name in ADDRESSES else ():
            if address or name == "join":  # Any other of these settings may be empty.
                split_host_port(address)
    except FlcError as error:
        raise FlcError(f"{where}: {error}", error.hint) from error
