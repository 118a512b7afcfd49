"""Reads the settings from flags, the environment, a file and the defaults; the first of them wins.

The names, types and limits are those of `config.Settings`. A profile only changes defaults, so a
setting that is given anywhere overrides it.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flc_udp.config import PROFILES, RELOADED_NAMES, SETTING_NAMES, Settings, flag_of
from flc_udp.model.address import split_host_port
from flc_udp.model.errors import FlcError
from flc_udp.model.tags import parse_tags

ENVIRONMENT_PREFIX = "FLC_"

FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
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
            name = _known(key, config_file)
            said[name] = _check(name, value, f"{config_file}: {key}")
    for name in SETTING_NAMES:
        key = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(key):
            said[name] = _check(name, _from_text(name, environ[key]), key)
    for name, value in overrides.items():
        said[name] = _check(name, value, flag_of(FIELDS[name]))
    profile = said.get("profile", Settings().profile)
    return Settings(**{**PROFILES[profile], **said})


def unknown_variables(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """[(variable, hint)] for each variable that begins like a setting's and is none.

    This is no error, because an orchestrator makes variables of its own from the names of services.
    """
    known = {ENVIRONMENT_PREFIX + name.upper() for name in SETTING_NAMES}
    return [
        (variable, _hint(variable, sorted(known)))
        for variable in sorted(environ)
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known
    ]


class Reloaded(NamedTuple):
    """What a running node does with settings that were read again."""

    settings: Settings
    """The settings that are in force from now on."""
    changed: list[str]
    needs_restart: list[str]
    """Names of settings that changed, and that a node follows only when it starts."""


def reload(in_force: Settings, found: Settings) -> Reloaded:
    """Take those changes from `found` that a running node can follow."""
    differing = [n for n in SETTING_NAMES if getattr(in_force, n) != getattr(found, n)]
    changed = [name for name in differing if name in RELOADED_NAMES]
    settings = dataclasses.replace(in_force, **{name: getattr(found, name) for name in changed})
    return Reloaded(settings, changed, [name for name in differing if name not in changed])


def _read_file(config_file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(config_file).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise FlcError(
            f"cannot read {config_file}: {reason}", "give a readable TOML file with --config"
        ) from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # Also for a number or a nesting that is too large.
        raise FlcError(
            f"{config_file} is not TOML: {error}", 'a setting is a line like: name = "ada"'
        ) from error


def _known(key: str, where: str) -> str:
    if key in FIELDS:
        return key
    raise FlcError(f"{where}: unknown key {key!r}", _hint(key, SETTING_NAMES))


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else "allowed are: " + ", ".join(known)


def _from_text(name: str, text: str) -> object:
    """The value of an environment variable, by the type of the setting."""
    default = getattr(Settings(), name)
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
    default = getattr(Settings(), name)
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            texts = tuple(_check_form(name, _check_text(item, where), where) for item in value)
            return _check_tags(texts, where) if name == "tags" else texts
        raise FlcError(f"{where} is {value!r}", "a list of texts is allowed")
    if type(value) is not type(default):
        kind = {bool: "true or false", int: "a whole number", str: "a text"}[type(default)]
        raise FlcError(f"{where} is {value!r}", f"{kind} is allowed")
    if isinstance(value, str) and name not in ANY_BYTES:
        _check_form(name, _check_text(value, where), where)
    limits = FIELDS[name].metadata
    low, high, choices = limits["low"], limits["high"], limits["choices"]
    is_off = limits["off"] and value == 0
    if isinstance(value, int) and low is not None and not (low <= value <= high or is_off):
        allowed = f"{'0 or ' if limits['off'] else ''}{low} to {high}"
        raise FlcError(f"{where} is {value}", f"{allowed} is allowed: {limits['why']}")
    if choices and value not in choices:
        raise FlcError(f"{where} is {value!r}", "allowed are: " + ", ".join(choices))
    return value


def _check_tags(texts: tuple[str, ...], where: str) -> tuple[str, ...]:
    try:
        parse_tags(texts)
    except FlcError as error:
        raise FlcError(f"{where}: {error}", error.hint) from error
    return texts


def _check_form(name: str, text: str, where: str) -> str:
    """Check that an address is one, so that the error names its place. It may be empty."""
    if name in ADDRESSES and text:
        try:
            split_host_port(text)
        except FlcError as error:
            raise FlcError(f"{where}: {error}", error.hint) from error
    return text


def _check_text(text: str, where: str) -> str:
    """Check that a text is UTF-8: Python reads other bytes as lone surrogates."""
    if text != text.encode(errors="replace").decode():
        raise FlcError(f"{where} is {text!r}", "valid Unicode text is allowed")
    return text
