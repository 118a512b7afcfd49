"""The two lines in which every command says what is wrong, and what the way out is.

Rules. Each is one line whatever it quotes: a file's name with a newline in it must not pass for
another error, and what came from elsewhere must not drive the terminal. Where standard error takes
nothing (a full disk, nobody reads) the exit code says it alone.
"""

from __future__ import annotations

import sys
from contextlib import suppress


def complain(problem: str, hint: str) -> None:
    """Print one `error:` and one `hint:` line."""
    from flc_udp.cli.text import visible

    with suppress(OSError):
        print(f"error: {visible(problem)}\nhint: {visible(hint)}", file=sys.stderr, flush=True)
