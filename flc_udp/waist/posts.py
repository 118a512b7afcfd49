"""Posts: what people say at this node, from the queue to the answer after the commit.

Rules. A post that its node cannot keep is refused at once, with the reason. A post is taken when
its peers have room for it and this node keeps up with what others say (`admission`); until then it
waits, but for one now and then, and whoever says it is not read from. Neighbours in a turn that are
of one room and author share blocks, and nobody waits for a fuller one. Each message is refused or
said alone, whatever stands beside it. A post is answered once: when all of it is durable or
refused.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from math import inf
from operator import attrgetter

from flc_udp.config import BODIES_MAX, Settings
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

ROOM_AND_AUTHOR = attrgetter("room", "author")

Say = Callable[..., Block]
"""Decides one block, of a room, an author and packed bodies; raises FlcError. The Replica does."""


class Posts:
    """Posts that wait to be taken, and posts that are taken and wait for their commit."""

    def __init__(self, settings: Settings, now: Micros) -> None:
        self.body_bytes_max = settings.body_bytes_max
        """Longer bodies are refused."""
        self._admission = Admission(now)
        self.waiting: deque[Post] = deque()
        """Posts that are still to be taken."""
        self._taken: deque[Post] = deque()
        """In the order of their messages in the log."""
        self._unpushed_bytes = 0
        """Bytes of taken posts that are to be pushed after their commit."""
        self._next_share: int = now

    def __len__(self) -> int:
        return len(self.waiting) + len(self._taken)

    def take(
        self, now: Micros, room_bytes: int | None, behind: int, refusal: FlcError | None, say: Say
    ) -> None:
        """Decide as many posts as may be taken now.

        `room_bytes` is what most peers have room for, None without limit. `behind` is how many
        messages of others this node has still to take in. With a `refusal` all of them get that.
        """
        admitted = list(self._admitted(self._admission.allow(now, behind), room_bytes, now))
        self._admission.took(sum(len(post.bodies) for post in admitted), len(self.waiting))
        if refusal is not None:
            for post in admitted:
                post.refuse_rest(refusal)
            return
        for (room, author), posts in groupby(admitted, ROOM_AND_AUTHOR):
            self._say(room, author, list(posts), say)

    def _admitted(self, allowed: float, room_bytes: int | None, now: Micros) -> Iterator[Post]:
        """Take as many of the waiting posts as are allowed and as most peers have room for.

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

    def _say(self, room: str, author: str, posts: list[Post], say: Say) -> None:
        """Decide the messages of neighbours, in as few blocks as hold them."""
        packed: list[bytes] = []
        for post in posts:
            self._pack(post, packed)
        receipt = any(post.receipt for post in posts)
        first: Dot | None = None
        said = 0
        refusal: FlcError | None = None
        while said < len(packed) and refusal is None:
            try:
                block = say(room, author, packed[said : said + BODIES_MAX], receipt=receipt)
            except FlcError as problem:
                refusal = problem.with_traceback(None)
            else:
                first = first or block.dot
                said += len(block.bodies)
                self._unpushed_bytes += pushed_bytes(len(block.encoded))
        at = 0
        for post in posts:
            count = max(min(len(post.places), said - at), 0)
            if refusal is not None:
                post.errors |= dict.fromkeys(post.places[count:], refusal)
            if first is None or count == 0:
                post.done()
                continue
            post.log, post.low = first.log, first.seq + at
            post.high, post.durable = post.low + count - 1, post.low - 1
            self._taken.append(post)
            at += count

    def _pack(self, post: Post, packed: list[bytes]) -> None:
        """Pack those messages of a post that may be said."""
        for place, body in enumerate(post.bodies):
            try:
                packed.append(pack_body(body, self.body_bytes_max))
            except FlcError as error:
                # Its traceback would hold the body for ever, in a circle with the post.
                post.errors[place] = error.with_traceback(None)
        if post.errors:
            post.places = [place for place in post.places if place not in post.errors]

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
                    if post.durable < post.high:
                        post.went_on()
                        break
                    answered.append(taken.popleft())
            position += len(block.bodies)
        return answered

    def refuse_taken(self, refusal: FlcError) -> None:
        """A commit failed: everybody who waits for one is told."""
        waiting, self._taken = self._taken, deque()
        self._unpushed_bytes = 0
        for post in waiting:
            post.refuse_rest(refusal)
