"""What a node tells of itself: structlog on standard error, for a terminal or as JSON lines.

Rules. Telling never stops the node: a line that standard error does not take is lost. Loggers take
up a new least level at their next line.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from flc_udp.config import Settings
from flc_udp.model.notices import Notice


def _event_first(
    _logger: object, _method: str, record: structlog.typing.EventDict
) -> dict[str, object]:
    """When, how grave, what, where; then the details: a line is read from its left end."""
    first = {key: record[key] for key in ("timestamp", "level", "event", "node") if key in record}
    return {**first, **record}


class _Stderr:
    """Standard error, unbuffered: what it does not take (a full disk, nobody reads) is lost."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Nothing is kept back."""


def tell(notice: Notice) -> None:
    """Log one fact, as an event with fields."""
    log = getattr(structlog.get_logger(), notice.level.value)
    log(notice.event(), **notice.record())


def log_to_stderr(settings: Settings) -> None:
    """From here on everything is logged as these settings say."""
    is_console = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stderr.isatty()
    )
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ)
        if is_console
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not is_console),
            _event_first,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
    )
