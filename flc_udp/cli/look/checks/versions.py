"""Checks of what flc needs: Python, its SQLite, and the daemon's event loop."""

from __future__ import annotations

import sqlite3
import sys
from importlib import metadata

from flc_udp.cli.look.checks.verdict import Verdict, fail, ok
from flc_udp.store.connections import LIBRARY_LEAST

PYTHON_LEAST = (3, 11)


def versions() -> list[Verdict]:
    """Check the Python that runs this command, which would also run a daemon of this flc."""
    return [
        at_least("python", tuple(sys.version_info[:3]), PYTHON_LEAST),
        at_least("sqlite", sqlite3.sqlite_version_info, LIBRARY_LEAST),
        event_loop(_installed("uvloop")),
    ]


def at_least(name: str, found: tuple[int, ...], least: tuple[int, ...]) -> Verdict:
    """Judge a version by the oldest one that works."""
    if found < least:
        advice = f"run flc with a Python that has {name} {_dotted(least)} or newer"
        return fail(name, f"{_dotted(found)} is too old", advice)
    return ok(name, _dotted(found))


def event_loop(version: str | None) -> Verdict:
    """Judge whether uvloop is there, without which no daemon starts."""
    if version is None:
        return fail("uvloop", "it is not installed, so no node can run", "reinstall flc-udp")
    return ok("uvloop", version)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
