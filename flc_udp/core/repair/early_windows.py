"""Early windows: what catch-up brings is laid aside while something before it is still to come.

The windows of several peers come in any order. Stamps rise along every cause, so messages that are
taken in the order of their stamps are decided as they are taken, whatever caused them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from flc_udp.core.repair.windows import StampWindow


@dataclass(slots=True)
class EarlyWindows:
    """The windows whose answers came to their end too early."""

    _windows: list[StampWindow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def size_bytes(self) -> int:
        """The size of all messages that came in them."""
        return sum(window.size_bytes for window in self._windows)

    def add(self, window: StampWindow, *, is_whole: bool) -> None:
        """The answer to a window came to its end.

        If some of it was lost, what came is taken next, before all that is still to come: then only
        what is really missing is asked for again.
        """
        if window.laid_aside:
            self._windows.append(window if is_whole else replace(window, after=0))

    def take(self, lowest: int, under_way: Iterable[StampWindow]) -> list[bytes]:
        """The messages before which nothing is to come, in the order of their windows.

        `lowest` is the first stamp that is still to come. It lies in the lowest of the windows
        `under_way`, so what comes in that one is taken as it comes.
        """
        windows = (*self._windows, *under_way)
        ready = [window for window in windows if window.laid_aside and window.after <= lowest]
        if not ready:
            return []
        ready.sort(key=lambda window: window.after)
        self._windows = [window for window in self._windows if window.after > lowest]
        messages = [encoded for window in ready for encoded in window.laid_aside]
        for window in ready:
            window.laid_aside = []
        return messages

    def clear(self) -> None:
        """Forget all that is laid aside."""
        self._windows.clear()
