"""Posts: what people say at this node, from the queue to the answer after the commit.

Rules. A post that its node cannot keep is refused at once, with the reason. A post is taken when
its peers have room for it and this node keeps up with what others say (`admission`); until then it
waits, and whoever says it is not read from. A post is answered once: after its commit, or with the
reason of its refusal.
"""

from collections import deque
from collections.abc import Callable, Sequence

from flc_udp.config import Settings
from flc_udp.core.push.links import pushed_bytes
from flc_udp.model.dots import Dot
from flc_udp.model.errors import FlcError
from flc_udp.model.message import Message
from flc_udp.model.units import MS_US, Micros
from flc_udp.waist.admission import Admission
from flc_udp.waist.ports import Batch, Committed, Post

PAUSE_US = 5 * MS_US
"""Posts that were not taken are looked at again after this time."""

OVERHEAD_BYTES = 64
"""What a message has besides its body, about."""

Say = Callable[..., Message]
"""Decides one post, of a room, an author and a body; raises FlcError. It is the Replica's."""


class Posts:
    """Posts that wait to be taken, and posts that are taken and wait for their commit."""

    def __init__(self, settings: Settings, now: Micros) -> None:
        self.body_bytes_max = settings.body_bytes_max
        """Longer bodies are refused."""
        self._admission = Admission(now)
        self.waiting: deque[Post] = deque()
        """Posts that are still to be taken."""
        self._taken: dict[Dot, Post] = {}
        self._unpushed_bytes = 0
        """Bytes of taken posts that are to be pushed after their commit."""

    def __len__(self) -> int:
        return len(self.waiting) + len(self._taken)

    def take(
        self, now: Micros, room_bytes: int | None, behind: int, refusal: FlcError | None, say: Say
    ) -> None:
        """Decide as many posts as may be taken now.

        `room_bytes` is what most peers have room for, None without limit. `behind` is how many
        messages of others this node has still to take in. With a `refusal` all of them get that.
        """
        count = self._admission.take(now, self._fitting(room_bytes), behind)
        for post in [self.waiting.popleft() for _ in range(count)]:
            if refusal is not None:
                post.done(refusal)
                continue
            try:
                check_size(post.body, self.body_bytes_max)
                message = say(post.room, post.author, post.body, receipt=post.receipt)
            except FlcError as error:
                post.done(error)
            else:
                self._taken[message.dot] = post
                self._unpushed_bytes += pushed_bytes(len(message.encoded))

    def _fitting(self, room_bytes: int | None) -> int:
        """How many of the waiting posts most peers have room for, and at least one.

        So nobody takes more than its peers can, and those that fell back have a share.
        """
        if room_bytes is None:
            return len(self.waiting)
        room_bytes -= self._unpushed_bytes
        for count, post in enumerate(self.waiting):
            room_bytes -= pushed_bytes(len(post.body) + OVERHEAD_BYTES)
            if room_bytes < 0:
                return max(count, 1)
        return len(self.waiting)

    def once_of(self, messages: Sequence[Message]) -> tuple[tuple[str, int, Dot], ...]:
        """(client, n, dot) of those of these messages that were said under a number."""
        if not self._taken:
            return ()
        posts = ((message.dot, self._taken.get(message.dot)) for message in messages)
        return tuple((*post.once, dot) for dot, post in posts if post is not None and post.once)

    def answers(self, batch: Batch, first_position: int) -> list[tuple[Post, Committed]]:
        """The posts of a batch that is durable, each with its answer."""
        answers = []
        for at, message in enumerate(batch.messages if self._taken else ()):
            post = self._taken.pop(message.dot, None)
            if post is not None:
                self._unpushed_bytes -= pushed_bytes(len(message.encoded))
                answers.append((post, Committed(message.dot, first_position + at)))
        return answers

    def refuse_taken(self, refusal: FlcError) -> None:
        """A commit failed: everybody who waits for one is told."""
        waiting, self._taken = list(self._taken.values()), {}
        self._unpushed_bytes = 0
        for post in waiting:
            post.done(refusal)


def check_size(body: str | bytes, limit: int) -> None:
    """Raise FlcError for a body of more than `limit` bytes, which is this node's own setting."""
    if len(body) * 4 <= limit:  # A character is at most 4 bytes: only long texts are measured.
        return
    size = len(body.encode("utf-8", "replace")) if isinstance(body, str) else len(body)
    if size > limit:
        raise FlcError(
            f"body has {size} bytes, allowed are {limit}",
            "send it in parts, or raise body_bytes_max on this node (at most 1 MiB)",
        )
