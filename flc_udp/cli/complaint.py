"""How a command tells that something is wrong: an `error:` line, a `hint:` line and an exit code.

Rules. Each is one line whatever it quotes: a newline in a file's name must not look like another
error, and text that came from elsewhere must not drive the terminal. Where standard error takes
nothing (a full disk, a closed pipe), the exit code says it alone.
"""

from __future__ import annotations

import sys
from contextlib import suppress

DONE, FAILED, MISTYPED, SILENT, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes. MISTYPED: the command line cannot be parsed. SILENT: who was asked does not answer.
INTERRUPTED: by Ctrl-C, as shells count it."""


def complain(problem: str, hint: str) -> None:
    """Print one `error:` and one `hint:` line."""
    from flc_udp.cli.text import visible

    with suppress(OSError):
        print(f"error: {visible(problem)}\nhint: {visible(hint)}", file=sys.stderr, flush=True)
