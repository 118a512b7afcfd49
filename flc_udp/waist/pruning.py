"""Pruning: when the log is to delete messages that are too old or too many, and how old they are.

Rules. A step deletes little and goes between two commits. After a step that left something to do,
the next one comes soon. So a node that is given a lower limit works it off and goes on answering.

The age of a message is the time that has really passed here since it arrived, as far as the node
can know it. A wall clock may begin in 1970, or jump by decades, and no message is deleted for that.
"""

from flc_udp.config import Settings
from flc_udp.model.units import MS_US, SECOND_US, Micros, Millis

LOOK_PAUSE_US = SECOND_US
"""A node that keeps a number of bytes looks this often whether there are more."""

LOOKS_AN_AGE = 64
"""A node that keeps messages up to an age looks this many times in that age. A message may be
deleted as much later than it could be."""

LOOK_PAUSE_MAX_US = 60 * SECOND_US
"""A node looks at least this often: a look costs little, and an operator waits for the space."""

STEP_PAUSE_US = 10 * MS_US
"""The time between two steps, which is left for commits."""


APART_MAX_MS = 366 * 24 * 3_600 * 1_000
"""A clock that shows a time within a year after the latest arrival is believed at a start."""


class AgeClock:
    """What arrivals are dated by: the wall clock of the start, and the time that passed since.

    If the wall clock of the start shows a time long after the latest arrival, or before it, one of
    the two was dated by a wrong clock. Then time goes on from the latest arrival, as if the node
    had been off for no time. So messages are rather kept too long.
    """

    def __init__(self, latest: Millis, wall: Millis, now: Micros) -> None:
        """`latest` is when the latest messages arrived; 0 where there are none."""
        self.is_sure = 0 <= wall - latest <= APART_MAX_MS if latest else wall >= 0
        """Whether the wall clock of the start was believed."""
        self._began = now
        self._began_ms = wall if self.is_sure else latest

    def time(self, now: Micros) -> Millis:
        """The present time, in ms since 1970 or since whatever the node's clock then showed."""
        return Millis(self._began_ms + (now - self._began) // MS_US)


class PruningClock:
    """When the next step is due. `wake_at` is None where everything is kept."""

    def __init__(self, settings: Settings, now: Micros) -> None:
        self._is_stepping = False
        self.wake_at: int | None = None
        self.limit(settings, now)

    def limit(self, settings: Settings, now: Micros) -> None:
        """Keep as much as these settings say from now on. A step under way is finished first."""
        self._age_ms = settings.retention_age_s * 1_000
        self._bytes_max = settings.retention_bytes
        pauses = [LOOK_PAUSE_MAX_US]
        if self._bytes_max:
            pauses.append(LOOK_PAUSE_US)
        if self._age_ms:
            pauses.append(self._age_ms * MS_US // LOOKS_AN_AGE)
        self._pause_us = min(pauses)
        due = self._after(now, self._pause_us)
        if due is not None and self.wake_at is not None:
            due = min(due, self.wake_at)  # A look is not put off, however often the limits change.
        self.wake_at = None if self._is_stepping else due

    def take_due(self, now: Micros, time: Millis) -> tuple[Millis | None, int | None] | None:
        """The limits for one step, if it is due: (arrived before, in ms; most bytes)."""
        if self.wake_at is None or now < self.wake_at:
            return None
        self.wake_at = None
        self._is_stepping = True
        before = Millis(time - self._age_ms) if self._age_ms else None
        return before, self._bytes_max or None

    def done(self, now: Micros, *, more: bool) -> None:
        """A step was made. `more`: it left something to do."""
        self._is_stepping = False
        self.wake_at = self._after(now, STEP_PAUSE_US if more else self._pause_us)

    def _after(self, now: Micros, pause_us: int) -> int | None:
        return now + pause_us if self._bytes_max or self._age_ms else None
