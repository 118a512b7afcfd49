"""Commits: what is decided becomes durable in batches, and what follows when the disk fails.

    decided ─▶ commit ─▶ durable
                 └─ failed ─▶ recover (until the log can be read) ─▶ rebuild ─▶ try the disk again

Rules. At most one commit is under way. What is decided meanwhile goes into the next, so the slower
the disk, the larger the batches. After a quiet moment a commit starts at once, so a lone message
waits for nothing; under load a pause lies between the starts of two commits. A small commit on a
quick disk is made at once, while the node stands still. After a failure everything that was decided
is undone, what the log really holds is read anew, posts are refused for a while, and the node tries
the disk again by itself.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from flc_udp.config import Settings
from flc_udp.model.block import Block
from flc_udp.model.dots import Dot
from flc_udp.model.errors import Drop, FlcError
from flc_udp.model.units import MS_US, SECOND_US, Micros, Millis
from flc_udp.waist.notices import CommitFailed
from flc_udp.waist.ports import Batch, Ground

CATCH_UP_PAUSE_US = 50 * MS_US
"""The pause between the starts of two commits of a node that catches up. In large commits a message
costs such a node a third less than in small ones."""

RETRY_US = SECOND_US
"""After a failure the disk is left alone for this long, and posts are refused."""

BATCH_BYTES_MAX = 8 << 20
"""A transaction holds at most this many bytes, which bounds how long it can take. A larger block
goes alone."""

AT_ONCE_BYTES_MAX = 4_096
"""A commit of at most this many bytes may be made at once, without the way to another thread and
back, which costs more than such a commit itself."""

AT_ONCE_US_MAX = 2 * MS_US
"""The node stands still meanwhile, so small commits have to take at most this long."""

QUICK_COMMITS = 16
"""A commit is made at once when so many small ones in a row were quick."""

SLOW_COSTS = 240
"""After a small commit that was slow, so many more have to be quick first."""

TOLD_US = 10 * SECOND_US
"""How long the last commit took is told for so long: on a slow disk the next one is under way then.
"""

OnceOf = Callable[[Sequence[Block]], tuple[tuple[str, int, Dot], ...]]
"""Gives the once-keys of messages in these blocks, as a Batch has them."""


class Commits:
    """What waits for the disk. Times are in µs."""

    def __init__(self, settings: Settings, ground: Ground, drops: Counter[Drop]) -> None:
        self.failing: str | None = None
        """Why the log cannot be written, from a failure to the next success."""
        self._reason = ""
        self._ground = ground
        self._drops = drops
        self._settings = settings
        self._decided: deque[Block] = deque()
        self._under_way: Batch | None = None
        self._began = self._next = ground.now()
        self._took_us, self._ended = 0, self._began
        self._is_small = False
        self._quick = 0
        """How many small commits were quick, less what a slow one costs."""
        self._refuses_until: int | None = None
        self._recover_at: int | None = None
        self._try_at: int | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is decided, under way or left alone after a failure."""
        return self._under_way is None and not self._decided and self._refuses_until is None

    def lasts_us(self, now: Micros) -> int:
        """How long the commit under way has lasted, or the last one took, if that is more."""
        took_us = self._took_us if now - self._ended < TOLD_US else 0
        return took_us if self._under_way is None else max(took_us, now - self._began)

    @property
    def refusal(self) -> FlcError | None:
        """Why posts are refused now; None where they are not."""
        return None if self._refuses_until is None else self._refusal()

    def _refusal(self) -> FlcError:
        return FlcError(
            f"not said: the log cannot be written ({self.failing})",
            "see `flc status`; the node goes on read-only and tries again by itself",
        )

    @property
    def wake_at(self) -> int | None:
        """When there is something to do, in µs. None: only the end of a commit is waited for."""
        times = [self._recover_at, self._try_at]
        if self._under_way is None:
            times.append(self._refuses_until)
            if self._decided and self._refuses_until is None:
                times.append(self._next)
        return min((at for at in times if at is not None), default=None)

    def append(self, blocks: Sequence[Block]) -> None:
        """These blocks are decided."""
        self._decided.extend(blocks)

    def wake(self, now: Micros) -> None:
        """Recover, take posts again, or try the disk, where that is due."""
        if self._recover_at is not None and self._recover_at <= now:
            self._recover_at = None
            self._ground.recover()
        is_over = self._refuses_until is not None and self._refuses_until <= now
        if is_over and self._under_way is None:
            self._refuses_until = None
        if self._try_at is not None and self._try_at <= now:
            self._try_at = None
            if self.failing is not None and self._under_way is None:
                self._ground.try_disk()

    def start(self, now: Micros, time: Millis, once_of: OnceOf, *, catching_up: bool) -> None:
        """Start a commit of what is decided, if it is due. It is dated by `time`."""
        is_free = self._under_way is None and self._refuses_until is None
        if not is_free or not self._decided or now < self._next:
            return
        pause_us = CATCH_UP_PAUSE_US if catching_up else self._settings.commit_pause_ms * MS_US
        self._next = Micros(now + pause_us)
        self._began = now
        blocks = self._next_batch()
        self._under_way = Batch(blocks, once_of(blocks), time)
        self._is_small = sum(len(block.encoded) for block in blocks) <= AT_ONCE_BYTES_MAX
        at_once = self._is_small and self._quick >= QUICK_COMMITS
        self._ground.commit(self._under_way, at_once=at_once)

    def _next_batch(self) -> tuple[Block, ...]:
        """At least one block, and at most what one transaction may hold."""
        blocks: list[Block] = []
        size_bytes = 0
        while self._decided and len(blocks) < self._settings.commit_blocks_max:
            size_bytes += len(self._decided[0].encoded)
            if blocks and size_bytes > BATCH_BYTES_MAX:
                break
            blocks.append(self._decided.popleft())
        return tuple(blocks)

    # --- How it ended -----------------------------------------------------------------------------

    def committed(self, batch: Batch, now: Micros) -> bool:
        """The commit under way is durable. True: it was slow."""
        assert batch is self._under_way
        self._under_way = None
        self.failing = None
        self._took_us, self._ended = now - self._began, now
        if self._is_small:
            self._quick = self._quick + 1 if self._took_us <= AT_ONCE_US_MAX else -SLOW_COSTS
        return self._took_us >= self._settings.slow_commit_ms * MS_US

    def failed(self, reason: str, now: Micros) -> FlcError:
        """The commit under way failed: what the log really holds has to be found out.

        Return why posts are refused meanwhile.
        """
        assert self._under_way is not None
        if self.failing is None:
            self._ground.tell(CommitFailed(reason))
        self.failing = self._reason = reason
        self._refuses_until = now + RETRY_US
        return self._refusal()

    def base_failed(self, reason: str) -> None:
        """A base was not written, as far as is known: what the log really holds decides."""
        self._reason = reason

    def recovery_failed(self, reason: str, now: Micros) -> FlcError:
        """The log cannot even be read: try again. Return why posts are refused meanwhile."""
        self.failing = f"{self._reason}; {reason}"
        self._refuses_until = self._recover_at = now + RETRY_US
        return self._refusal()

    def recovered(self, now: Micros) -> None:
        """The log was opened anew: what was decided and is not in it is undone."""
        under_way = () if self._under_way is None else self._under_way.blocks
        undone = sum(len(block.bodies) for block in (*under_way, *self._decided))
        self._drops[Drop.UNDONE_BY_FAILED_COMMIT] += undone
        self._under_way = None
        self._decided.clear()
        self._refuses_until = self._try_at = now + RETRY_US

    def disk_is_well(self) -> None:
        """Something was written after a failure: posts are taken again."""
        self.failing = None

    def disk_failed(self, now: Micros) -> None:
        """Nothing could be written: try again later."""
        self._try_at = now + RETRY_US
