"""A play on a cluster of its own, and what is reported of it."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import NamedTuple

from tests.daemon.cluster import Cluster

LOG_CHARS = 4_000

Play = Callable[[Cluster], Coroutine[object, object, object]]
"""If it returns words, they are figures for the report."""


class SkippedError(Exception):
    """This machine has no stage for the play."""


class Outcome(NamedTuple):
    """How a play went: a mark, its figures (or why it was skipped), what went wrong."""

    mark: str
    figures: str
    problem: str = ""


async def performed(play: Play) -> Outcome:
    """Play it on a cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="flc-soak-") as home:
        cluster = Cluster(Path(home))
        figures, problem = "", ""
        try:
            result = await play(cluster)
            figures = result if isinstance(result, str) else ""
        except SkippedError as skipped:
            return Outcome("skipped", str(skipped))
        except Exception:  # noqa: BLE001  # all of them are the report's
            problem = traceback.format_exc()
        finally:
            await cluster.clear()
        problem += "".join(cluster.tracebacks())
        if problem:
            return Outcome("FAILED", figures, problem + last_words(cluster))
        return Outcome("ok", figures)


def last_words(cluster: Cluster) -> str:
    """The end of what each daemon logged."""
    logs = {node.name: node.log.read_text(errors="replace") for node in cluster.nodes}
    return "".join(f"--- stderr of {name}\n{log[-LOG_CHARS:]}" for name, log in logs.items())
