"""Failures of our own: each is told and counted, and ends nothing but the thing that failed.

Rules. Whatever others cause (a request, a datagram, a follow, a page, a hook, a name that is looked
up) may fail alone. What nobody expected goes to the log with its traceback, once a minute for each
kind, and the node goes on. Only what concerns the node's own state ends the process: an exception
out of a turn or out of the end of a write.
"""

import time
import traceback
from collections import Counter

from flc_udp.daemon.notices import PartFailed, RequestFailed
from flc_udp.daemon.stderr import tell
from flc_udp.model.errors import FlcError, StoreFailed

QUIET_S = 60.0
"""A traceback of one kind of failure is logged once in this time."""

HINT = "this is a fault of flc-udp and not of yours; the node goes on, and its log has a traceback"


class Failures:
    """What failed in this process, by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._quiet_until_s: dict[str, float] = {}

    def of_request(self, op: str, error: Exception) -> FlcError | StoreFailed:
        """A request failed. Return what its client is told."""
        if isinstance(error, FlcError | StoreFailed):
            return error
        self._note(f"request {op}", error, RequestFailed)
        return FlcError(f"{op} failed: {type(error).__name__}: {error}"[:500], HINT)

    def of_part(self, part: str, error: BaseException) -> None:
        """A part of the daemon failed, and goes on."""
        self._note(part, error, PartFailed)

    def _note(
        self, kind: str, error: BaseException, made: type[RequestFailed | PartFailed]
    ) -> None:
        self.counts[kind] += 1
        now_s = time.monotonic()
        if now_s < self._quiet_until_s.get(kind, 0.0):
            self._unlogged[kind] += 1
            return
        self._quiet_until_s[kind] = now_s + QUIET_S
        lines = "".join(traceback.format_exception(error))
        tell(made(kind, str(error), lines, self._unlogged.pop(kind, 0)))
