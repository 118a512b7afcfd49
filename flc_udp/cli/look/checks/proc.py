"""Files of /proc, which other systems than Linux, and some containers, do not have."""

from __future__ import annotations

from pathlib import Path


def read(path: Path) -> str:
    """What such a file says, nothing where it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""
