"""Reads files of /proc, which do not exist outside Linux and in some containers."""

from __future__ import annotations

from pathlib import Path


def read(path: Path) -> str:
    """Return the text of the file, or "" if it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
