"""How a command tells that something is wrong: an `error:` line, a `hint:` line and an exit code.

Rules. Error and hint are one line each, whatever they quote: a newline in a file's name must not
look like another error, and text from elsewhere must not drive the terminal. If standard error
takes nothing (a full disk, a closed pipe), only the exit code tells that something is wrong.
"""

from __future__ import annotations

import sys
from contextlib import suppress

DONE, FAILED, MISTYPED, SILENT, INTERRUPTED = 0, 1, 2, 3, 130
"""The exit codes. MISTYPED means that the command line cannot be parsed. SILENT means that nobody
answers. INTERRUPTED means that Ctrl-C was pressed; shells use the same number."""


def complain(problem: str, hint: str) -> None:
    """Print one `error:` and one `hint:` line."""
    from flc_udp.cli.text import visible

    with suppress(OSError):
        print(f"error: {visible(problem)}\nhint: {visible(hint)}", file=sys.stderr, flush=True)
