"""What may stand for a number on the command line; anything else is told with what was typed."""

from __future__ import annotations

import argparse


def seconds(words: str) -> float:
    """A span of time in seconds, from 0."""
    try:
        span = float(words)
    except ValueError:
        span = -1.0
    if not 0 <= span < float("inf"):
        raise argparse.ArgumentTypeError(f"{words!r} is no number of seconds")
    return span
