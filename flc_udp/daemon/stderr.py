"""The node's own log on standard error, by structlog: for a terminal, or as JSON lines.

Rules. Logging never stops the node: a line that standard error does not take, or not at once, is
counted and lost. However much happens, each event has a bounded number of lines a minute; the
others are counted, and the next line of that event tells how many were left out. A new log level
counts from the next line on.
"""

import logging
import os
import select
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TextIO, cast

import structlog

from flc_udp.config import Settings
from flc_udp.daemon.notices import HookOutput, LinesLeftOut
from flc_udp.model.notices import Notice
from flc_udp.model.visible import visible

STDERR = 2

LINES_MAX, LINES_S = 600, 60.0
"""Each event has at most this many lines in this time. A cluster of hundreds that starts at once
stays below, and somebody who makes up members by the thousand does not fill the disk."""


def _event_first(
    _logger: object, _method: str, record: structlog.typing.EventDict
) -> dict[str, object]:
    """Put time, level, event and node first, because a line is read from its left end."""
    first = {key: record[key] for key in ("timestamp", "level", "event", "node") if key in record}
    return {**first, **record}


def _visible(
    _logger: object, _method: str, record: structlog.typing.EventDict
) -> dict[str, object]:
    """Let no name of another node drive the terminal, or hide in it."""
    return {k: visible(v) if isinstance(v, str) else v for k, v in record.items()}


def write(data: bytes) -> int:
    """Write to standard error what it takes at once; return how many bytes that were.

    It may be a pipe that nobody reads or a full disk. Others may share it, so it cannot be made
    non-blocking; but a pipe that is ready takes PIPE_BUF bytes without waiting.
    """
    ready, written, fd = select.poll(), 0, _opened()
    ready.register(fd, select.POLLOUT)
    with suppress(OSError):
        while written < len(data) and ready.poll(0):
            written += os.write(fd, data[written : written + select.PIPE_BUF])
    if fd != STDERR:
        os.close(fd)
    return written


def _opened() -> int:
    """Standard error. A terminal that is ready may have no room for a line: it is opened anew."""
    with suppress(OSError):
        if os.isatty(STDERR):
            return os.open(os.ttyname(STDERR), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return STDERR


class _Stderr:
    """Standard error without a buffer."""

    def write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        LINES.left_out += write(data) < len(data)

    def flush(self) -> None:
        """There is nothing to flush."""


class Lines:
    """How many lines each event had in its present minute, and how many were left out."""

    def __init__(self) -> None:
        self.left_out = 0
        """Of all events, since the process began, with those that standard error did not take."""
        self._began_s: dict[str, float] = {}
        self._told: Counter[str] = Counter()
        """More than LINES_MAX where some were left out."""

    def take(self, event: str, now_s: float) -> tuple[bool, int]:
        """Whether a line of this event is logged, and how many of its lines were left out before.

        They are told once, with the first line of the next minute.
        """
        untold = 0
        if now_s >= self._began_s.get(event, -LINES_S) + LINES_S:
            untold = max(self._told[event] - LINES_MAX, 0)
            self._began_s[event], self._told[event] = now_s, 0
        self._told[event] += 1
        is_logged = self._told[event] <= LINES_MAX
        self.left_out += not is_logged
        return is_logged, untold


LINES = Lines()
"""Those of this process, which has one standard error."""


def tell(notice: Notice) -> None:
    """Log one fact, as an event with fields."""
    is_logged, untold = LINES.take(notice.event(), time.monotonic())
    if untold:
        _log(LinesLeftOut(notice.event(), untold))
    if is_logged:
        _log(notice)


def tell_output(output: HookOutput) -> int:
    """Write a line of a command at every log level; return how many bytes were taken.

    For people it is the line alone, for machines an event like any other. Whoever calls this keeps
    it within bounds.
    """
    record: object = {"event": output.event(), **output.record()}
    for render in _FORMS:
        record = render(None, "info", cast("structlog.typing.EventDict", record))
    line = f"{record}\n" if _FORMS else f"{visible(output.line)}\n"
    return write(line.encode(errors="backslashreplace"))


_FORMS: list[structlog.typing.Processor] = []
"""What makes a line of JSON of a record. It is empty where people read the log."""


def _log(notice: Notice) -> None:
    log = getattr(structlog.get_logger(), notice.level.value)
    log(notice.event(), **notice.record())


def log_to_stderr(settings: Settings) -> None:
    """Log as these settings say, from now on."""
    is_console = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    has_colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderers: list[structlog.typing.Processor] = (
        [_visible, structlog.dev.ConsoleRenderer(colors=has_colours)]
        if is_console
        else [structlog.processors.JSONRenderer()]
    )
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not is_console),
        _event_first,
        *renderers,
    ]
    _FORMS[:] = [] if is_console else processors
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
    )
