"""PruningClock's clock: when the log is to let go of what is too old or too much.

Rules. A step is small and goes between commits, and after one that left something to do the next
comes soon; so a node that was given a lower limit works it off and goes on answering.
"""

from __future__ import annotations

from flc_udp.config import Settings

S = 1_000_000

LOOK_PAUSE = 1 * S
"""Between two looks at what is there, for those who keep so many bytes, in µs."""

LOOKS_AN_AGE = 64
"""So much later than its age a message may go, in parts of that age."""

LOOK_PAUSE_MAX = 60 * S
"""A look costs little, and an operator who waits for space waits a minute at most."""

STEP_PAUSE = 10_000
"""Between two steps, for commits."""


class PruningClock:
    """When the next step is due; `wake_at` is None where everything is kept."""

    def __init__(self, settings: Settings, now: int) -> None:
        self._is_stepping = False
        self.wake_at: int | None = None
        self.limit(settings, now)

    def limit(self, settings: Settings, now: int) -> None:
        """Keep so much from now on; a step that is under way is done first."""
        self._age_ms = settings.retention_age_s * 1_000
        self._bytes = settings.retention_bytes
        pauses = [LOOK_PAUSE_MAX]
        if self._bytes:
            pauses.append(LOOK_PAUSE)
        if self._age_ms:
            pauses.append(self._age_ms * 1_000 // LOOKS_AN_AGE)
        self._pause = min(pauses)
        due = self._after(now, self._pause)
        if due is not None and self.wake_at is not None:
            due = min(due, self.wake_at)  # However often it is limited anew, it is looked at.
        self.wake_at = None if self._is_stepping else due

    def take_due(self, now: int, wall: int) -> tuple[int | None, int | None] | None:
        """Limits for one step, if it is due: (least ms since 1970 of arrival, most bytes)."""
        if self.wake_at is None or now < self.wake_at:
            return None
        self.wake_at = None
        self._is_stepping = True
        return (wall - self._age_ms if self._age_ms else None), self._bytes or None

    def done(self, now: int, *, more: bool) -> None:
        """A step was made; whether it left something to do."""
        self._is_stepping = False
        self.wake_at = self._after(now, STEP_PAUSE if more else self._pause)

    def _after(self, now: int, pause: int) -> int | None:
        return now + pause if self._bytes or self._age_ms else None
