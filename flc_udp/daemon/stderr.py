"""The node's own log on standard error, by structlog: for a terminal, or as JSON lines.

Rules. Logging never stops the node: a line that standard error does not take is lost. A new log
level counts from the next line on.
"""

import logging
import os
import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog

from flc_udp.config import Settings
from flc_udp.model.notices import Notice
from flc_udp.model.visible import visible


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


class _Stderr:
    """Standard error without a buffer. What it does not take, as on a full disk, is lost."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))

    def flush(self) -> None:
        """There is nothing to flush."""


def tell(notice: Notice) -> None:
    """Log one fact, as an event with fields."""
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
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not is_console),
            _event_first,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
    )
