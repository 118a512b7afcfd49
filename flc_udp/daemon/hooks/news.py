"""What hooks run for: new messages, read from the log, and members whose state changed."""

from flc_udp.daemon.ground import LoopGround
from flc_udp.daemon.hooks.environment import Run, run_for_member, run_for_message
from flc_udp.daemon.patient import PatientReader
from flc_udp.model.dots import NodeId
from flc_udp.store.reader import Reader, messages_of

CHANGED_MAX = 65_536
"""So many members may have changed while a command runs. Beyond it the first is passed over: only
somebody who makes up members comes to this."""


class NewMessages:
    """A position in the log. A worker that is free moves it on by one message."""

    def __init__(self, ground: LoopGround, reader: Reader) -> None:
        self._ground = ground
        self._reader = PatientReader(reader)
        self._position = ground.shown
        self.passed_over = 0
        """Messages that retention removed before a command ran for them."""

    @property
    def waiting(self) -> int:
        """Messages in the log that are shown, and for which no command has begun."""
        return self._ground.shown - self._position

    def skip(self) -> None:
        """Treat everything that is shown by now as old."""
        self._position = self._ground.shown

    def take(self) -> Run | None:
        """The next message that is shown; raises StoreFailed."""
        shown = self._ground.shown
        if self._position >= shown:
            return None
        page = self._reader.after(self._position, None, 1)
        if not page or page[0][0] > shown:
            self.passed_over += shown - self._position
            self._position = shown
            return None
        position, message = next(messages_of(page, self._position))
        self.passed_over += position - self._position - 1
        self._position = position
        return run_for_message(message, is_own=self._ground.node.is_own(message.log))


class ChangedMembers:
    """The members whose state changed, each of them once. The first to change is taken first."""

    def __init__(self, ground: LoopGround) -> None:
        self._ground = ground
        self._changed: dict[NodeId, None] = {}
        self.passed_over = 0
        """Changes that a later change of the same member replaced before a command ran."""

    @property
    def waiting(self) -> int:
        """Members that changed, and for which no command has begun."""
        return len(self._changed)

    def skip(self) -> None:
        """Treat everything that changed by now as old."""
        self._changed.clear()

    def add(self, node: NodeId) -> None:
        """The state of this member has changed."""
        self.passed_over += node in self._changed
        self._changed[node] = None
        if len(self._changed) > CHANGED_MAX:
            del self._changed[next(iter(self._changed))]
            self.passed_over += 1

    def take(self) -> Run | None:
        """The next member as it is now. A member that has left the table is passed over."""
        while self._changed:
            node = next(iter(self._changed))
            del self._changed[node]
            member = self._ground.node.member(node)
            if member is None:
                self.passed_over += 1
                continue
            return run_for_member(member, self._ground.wall())
        return None
