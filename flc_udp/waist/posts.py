"""Posts: what people say at this node, from the queue to the answer after the commit.

Rules. A post that its node cannot keep is refused at once, with the reason. A post is taken when
its peers have room for it and this node keeps up with what others say (`admission`); until then it
waits, but for one now and then, and whoever says it is not read from. Neighbours that are taken
together and are of one room and author share blocks, and nobody waits for a fuller one. However
much is taken, a turn decides only so much of it, in the order in which it came. Each message is
refused or said alone, whatever stands beside it. A post is answered once: when all of it is durable
or refused.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from math import inf

from flc_udp.config import SHARED_BYTES_MAX, Settings
from flc_udp.core.push.links import pushed_bytes
from flc_udp.model.block import Block, pack_body
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.units import MS_US, Micros
from flc_udp.waist.admission import Admission
from flc_udp.waist.ports import Batch, Post

PAUSE_US = 5 * MS_US
"""Posts that were not taken are looked at again after this time."""

OVERHEAD_BYTES = 64
"""What a block has besides its bodies, about."""

TURN_BLOCKS, TURN_BYTES = 256, 1 << 20
"""A turn decides about so much. The rest waits for the next one, so that datagrams and timers have
their turns in between: one say may have 8,000 blocks, which take 0.2 s."""

STEP_REFUSED = 16
"""To refuse so many messages takes as long as to say a block."""

Say = Callable[..., Block]
"""Decides one block, of a room, an author and packed bodies; raises FlcError. The Replica does."""


class Posts:
    """Posts that wait to be taken, and posts that are taken and wait for their commit."""

    def __init__(self, settings: Settings, now: Micros) -> None:
        self.body_bytes_max = settings.body_bytes_max
        """Longer bodies are refused."""
        self._admission = Admission(now)
        self.waiting: deque[Post] = deque()
        """Posts that are still to be admitted."""
        self._admitted: deque[Post] = deque()
        """Posts that are still to be taken. Of the first of them a part may be taken already."""
        self._packed: list[bytes] = []
        """Their next bodies."""
        self._taken: deque[Post] = deque()
        """In the order of their messages in the log."""
        self._unpushed_bytes = 0
        """Bytes of taken posts that are to be pushed after their commit."""
        self._next_share: int = now

    def __len__(self) -> int:
        in_both = self.is_under_way and self._admitted[0].taken > 0
        return len(self.waiting) + len(self._admitted) + len(self._taken) - in_both

    def take(
        self, now: Micros, room_bytes: int | None, behind: int, refusal: FlcError | None, say: Say
    ) -> None:
        """Decide as many posts as may be taken now, or a part of them: see `is_under_way`.

        `room_bytes` is what most peers have room for, None without limit. `behind` is how many
        messages of others this node has still to take in. With a `refusal` all of them get that.
        """
        if not self._admitted:
            allowed = self._admission.allow(now, behind)
            self._admitted.extend(self._admit(allowed, room_bytes, now))
            messages = sum(len(post.bodies) for post in self._admitted)
            self._admission.took(messages, len(self.waiting))
        if refusal is not None:
            while self._admitted:
                self._refuse_first(refusal)
            return
        blocks = size_bytes = 0
        while self._admitted and blocks < TURN_BLOCKS and size_bytes < TURN_BYTES:
            size_bytes += self._say_block(say)
            blocks += 1

    @property
    def is_under_way(self) -> bool:
        """Whether a turn took a part of what was admitted: the next one is due at once."""
        return bool(self._admitted)

    def _admit(self, allowed: float, room_bytes: int | None, now: Micros) -> Iterator[Post]:
        """As many of the waiting posts as are allowed and as most peers have room for.

        One that is larger than any room is taken when nothing else waits to be pushed. And one is
        taken after a pause whatever room there is, so those that fell back have a share.
        """
        room = inf if room_bytes is None else room_bytes - self._unpushed_bytes
        may_exceed = now >= self._next_share or (room > 0 and not self._unpushed_bytes)
        while self.waiting and allowed >= 1:
            post = self.waiting[0]
            size = sum(map(len, post.bodies)) + OVERHEAD_BYTES
            size = size if len(post.bodies) > 1 else pushed_bytes(size)
            if size > room and not may_exceed:
                return
            may_exceed, self._next_share = False, now + PAUSE_US
            room -= size
            allowed -= len(post.bodies)
            yield self.waiting.popleft()

    # --- A turn's part ----------------------------------------------------------------------------

    def _say_block(self, say: Say) -> int:
        """Say the next messages of neighbours, as many as a block holds; return its bytes."""
        first = self._admitted[0]
        if not self._look_ahead(first):
            return 0
        if not self._packed:
            self._pass_taken()
            return 0
        receipt = any(post.receipt for post in takewhile(_is_looked_at, self._admitted))
        try:
            block = say(first.room, first.author, self._packed, receipt=receipt)
        except FlcError as problem:
            self._refuse_first(problem.with_traceback(None))
            return 0
        del self._packed[: len(block.bodies)]
        self._unpushed_bytes += pushed_bytes(len(block.encoded))
        self._share_out(block)
        return len(block.encoded)

    def _look_ahead(self, first: Post) -> bool:
        """Pack more than a block holds of the first post and its neighbours.

        What may not be said is refused. False: it was so much that another step goes on.
        """
        refused, size_bytes = 0, sum(map(len, self._packed))
        room, author = first.room, first.author
        for post in self._admitted:
            if post.room != room or post.author != author:
                break
            while post.looked < len(post.bodies):
                if size_bytes > SHARED_BYTES_MAX or refused == STEP_REFUSED:
                    return refused < STEP_REFUSED
                place, post.looked = post.looked, post.looked + 1
                try:
                    packed = pack_body(post.bodies[place], self.body_bytes_max)
                except FlcError as error:
                    # Its traceback would hold the body for ever, in a circle with the post.
                    post.errors[place] = error.with_traceback(None)
                    refused += 1
                else:
                    post.places.append(place)
                    self._packed.append(packed)
                    size_bytes += len(packed)
        return True

    def _share_out(self, block: Block) -> None:
        """Give the messages of a block to the posts whose they are."""
        seq, log, last, admitted = block.first, block.log, block.last, self._admitted
        while seq <= last:
            post = admitted[0]
            if len(post.places) == 1 == len(post.bodies):  # It is so with most of them.
                post.log, post.low, post.high, post.durable = log, seq, seq, seq - 1
                post.taken = 1
                self._taken.append(admitted.popleft())
                seq += 1
                continue
            if post.places and not post.taken:
                post.log, post.low, post.durable = log, seq, seq - 1
                self._taken.append(post)
            count = min(len(post.places) - post.taken, last - seq + 1)
            post.taken += count
            seq += count
            if count:
                post.high = seq - 1
            self._pass_taken()

    def _pass_taken(self) -> None:
        """Leave the first post if nothing of it is left to take."""
        post = self._admitted[0]
        if post.is_taken:
            self._admitted.popleft()
            if not post.taken:
                post.done()

    def _refuse_first(self, refusal: FlcError) -> None:
        """Refuse what was not taken of the first post."""
        post = self._admitted.popleft()
        del self._packed[: len(post.places) - post.taken]
        post.refuse_after(post.taken, refusal)
        if not post.taken:
            post.done()
        elif post.durable == post.high:
            assert self._taken.pop() is post
            post.done()

    # --- After a commit ---------------------------------------------------------------------------

    def once_of(self, blocks: Sequence[Block]) -> tuple[tuple[str, int, Dot], ...]:
        """(client, n, dot) of those messages in these blocks that were said under a number."""
        last = {block.log: block.last for block in blocks} if self._taken else {}
        once = []
        for post in self._taken:
            if post.low > last.get(post.log, 0):
                break
            if post.once is not None:
                client, n = post.once
                seqs = range(post.durable + 1, min(post.high, last[post.log]) + 1)
                once += [(client, n + post.places[s - post.low], Dot(post.log, s)) for s in seqs]
        return tuple(once)

    def answers(self, batch: Batch, first_position: int) -> list[Post]:
        """The posts of which nothing waits any more, now that a batch is durable."""
        answered: list[Post] = []
        taken, position = self._taken, first_position
        for block in batch.blocks:
            if not taken:
                break
            if block.log == taken[0].log:
                self._unpushed_bytes -= pushed_bytes(len(block.encoded))
                while taken and taken[0].log == block.log and taken[0].low <= block.last:
                    post = taken[0]
                    post.durable = min(post.high, block.last)
                    post.position = position + post.durable - block.first
                    if post.durable < post.high or not post.is_taken:
                        post.went_on()
                        break
                    answered.append(taken.popleft())
            position += len(block.bodies)
        return answered

    def refuse_taken(self, refusal: FlcError) -> None:
        """A commit failed: everybody who waits for one is told."""
        waiting, self._taken = self._taken, deque()
        self._unpushed_bytes = 0
        if self._admitted and self._admitted[0].taken:
            post = self._admitted.popleft()
            del self._packed[: len(post.places) - post.taken]
        for post in waiting:
            post.refuse_rest(refusal)


def _is_looked_at(post: Post) -> bool:
    return post.looked > 0 or not post.bodies
