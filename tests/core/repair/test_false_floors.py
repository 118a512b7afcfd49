"""A member that holds the key tells floors and bases that are none: nothing is taken from it."""

from collections.abc import Sequence

import pytest

from flc_udp.config import CLOCK_STAMP_LIMIT, STAMP_LIMIT
from flc_udp.core.effects import Adopt, Effect, Send
from flc_udp.core.repair.base import TRIES_MAX
from flc_udp.core.standing import NO_LOG
from flc_udp.model.dots import BEGINNING, Dot, LogId
from flc_udp.model.errors import Drop
from flc_udp.model.history import BaseLog, BaseRoom, Head, History
from flc_udp.wire.packets import Base, BaseEnd, BasePull, Have, Packet, Pull, ReplayEnd
from tests.core.dialogue import MS, WALL, Talk

MADE_UP = LogId(b"made up!")
FLOOR = WALL << 16


def row(log: LogId, seq: int = 9, stamp: int = FLOOR - 1) -> BaseLog:
    """A log as it stands in a base."""
    return BaseLog(log, Head(seq, b"hash----", stamp), None, (BaseRoom("ops", seq, stamp),))


class Plot:
    """Ann is told of a log by Bob, whose packets the test writes; others answer honestly."""

    def __init__(self, *others: str) -> None:
        self.talk = Talk("ann", "bob", *others, probe_interval_ms=60_000)
        self.talk.meet()
        self.ann, self.bob = self.talk["ann"], self.talk["bob"]
        self.adopted: list[Adopt] = []
        self.asked: list[tuple[str, Packet]] = []

    def step(self, after_ms: int = 0) -> None:
        """Ann has a turn; what it asks of whom is noted and sent nowhere."""
        self.talk.now += after_ms * MS
        if self.ann.replica.wake_at <= self.talk.now:
            self.ann.replica.wake(self.talk.now)
        for effect in self.ann.end_turn():
            self._note(effect)

    def _note(self, effect: Effect) -> None:
        match effect:
            case Adopt():
                self.adopted.append(effect)
            case Send(to, packets):
                names = [p.name for p in self.talk.parties if p.address in to]
                self.asked += [(name, packet) for name in names for packet in packets]

    def tell(self, *packets: Packet, by: str = "bob") -> None:
        """A member says this, and Ann has its turn."""
        self.ann.hear(self.talk[by], *packets)
        self.step()

    def hint(self, log: LogId = MADE_UP, seq: int = 9) -> None:
        """Bob claims to hold a log."""
        self.tell(Have(True, (Dot(log, seq),)))

    def take(self, kind: type[Packet]) -> list[tuple[str, Packet]]:
        """What was asked since this was last looked at."""
        found = [(name, packet) for name, packet in self.asked if isinstance(packet, kind)]
        self.asked = [it for it in self.asked if it not in found]
        return found

    def answer_pulls(self, floors: dict[str, int], steps: int = 1_000) -> None:
        """Each one that is asked has nothing, or tells this floor, until a base is asked for."""
        for _ in range(steps):
            for name, pull in self.take(Pull):
                assert isinstance(pull, Pull)
                logs = tuple(want.log for want in pull.wants)
                floor = floors.get(name, 0)
                self.tell(ReplayEnd(pull.nonce, 0, STAMP_LIMIT, floor, logs), by=name)
            if any(isinstance(packet, BasePull) for _, packet in self.asked):
                return
            self.step(20)

    def give_base(self, rows: Sequence[BaseLog], floor: int = FLOOR) -> str:
        """The one whose base is asked for gives this one; return its name."""
        [(name, pull)] = self.take(BasePull)
        assert isinstance(pull, BasePull)
        end = BaseEnd(pull.nonce, floor, 1, len(rows), BEGINNING)
        self.tell(*(Base(pull.nonce, (found,)) for found in rows), end, by=name)
        return name


def test_only_who_was_asked_for_a_log_tells_that_it_was_deleted() -> None:
    """A floor under another nonce, of another log or of another member makes no base needed."""
    plot = Plot("cyd")
    plot.hint()
    [(name, pull)] = plot.take(Pull)
    assert (name, isinstance(pull, Pull)) == ("bob", True)
    assert isinstance(pull, Pull)
    plot.tell(ReplayEnd(pull.nonce + 1, 0, STAMP_LIMIT, FLOOR, (MADE_UP,)))
    plot.tell(ReplayEnd(pull.nonce, 0, STAMP_LIMIT, FLOOR, (MADE_UP,)), by="cyd")
    plot.tell(ReplayEnd(pull.nonce, 0, STAMP_LIMIT, FLOOR, (LogId(b"another!"),)))
    plot.answer_pulls({})

    assert plot.take(BasePull) == []
    assert plot.ann.facts.repair.is_idle


@pytest.mark.parametrize("floor", [CLOCK_STAMP_LIMIT + 1, STAMP_LIMIT - 1])
def test_a_floor_beyond_every_clock_is_no_answer(floor: int) -> None:
    """Nothing is asked for on its strength, and it is counted."""
    plot = Plot()
    plot.hint()
    plot.answer_pulls({"bob": floor})

    assert plot.take(BasePull) == []
    assert plot.ann.facts.drops[Drop.FLOOR_BEYOND_CLOCKS] > 0
    assert plot.ann.facts.repair.is_idle


@pytest.mark.parametrize(
    ("rows", "floor"),
    [
        ([], FLOOR),
        ([row(LogId(b"another!"))], FLOOR),
        ([row(MADE_UP)], CLOCK_STAMP_LIMIT + 1),
        ([row(MADE_UP, stamp=FLOOR)], FLOOR),
    ],
)
def test_a_base_that_does_not_bring_what_is_missing_is_refused(
    rows: list[BaseLog], floor: int
) -> None:
    """It is empty, of other logs, beyond every clock, or no base at all: the next one is taken."""
    plot = Plot("cyd")
    plot.hint()
    plot.answer_pulls({"bob": FLOOR - 5, "cyd": FLOOR})
    assert plot.give_base(rows, floor) == "bob"
    assert plot.adopted == []
    assert plot.ann.facts.drops[Drop.BASE_OF_NO_USE] == 1

    assert plot.give_base([row(MADE_UP)]) == "cyd"
    assert [adopt.floor for adopt in plot.adopted] == [FLOOR]


def test_one_that_stays_silent_about_its_base_keeps_nobody_from_another() -> None:
    """The lowest floor is asked first, and not for ever."""
    plot = Plot("cyd")
    plot.hint()
    for _ in range(2 * TRIES_MAX):
        plot.answer_pulls({"bob": FLOOR - 5, "cyd": FLOOR}, steps=40)
        [(name, _)] = plot.take(BasePull) or [("", None)]
        if name == "cyd":
            break

    assert name == "cyd"


def test_a_floor_that_was_taken_lifts_no_stamp() -> None:
    """Only what was deleted here has to lie below a post, or the post would be deleted, too."""
    talk = Talk("ann")
    for pruned_below, stamp in ((0, FLOOR), (FLOOR + 7, FLOOR + 8)):
        history = History(floor=CLOCK_STAMP_LIMIT - 1, pruned_below=pruned_below)
        talk["ann"].replica.adopted(history, talk.now)
        talk["ann"].replica.rebuild(history, talk.now)
        talk["ann"].disk.clear()
        assert talk.say("ann", "hi").stamp == stamp


def test_no_base_is_ahead_in_a_log_of_ones_own() -> None:
    """Nobody else can have continued it, and a post after such a base would fork it."""
    plot = Plot()
    plot.talk.say("ann", "mine")
    plot.talk.settle()
    own = plot.ann.replica.log
    assert own != NO_LOG
    plot.hint()
    plot.answer_pulls({"bob": FLOOR})
    plot.give_base([row(MADE_UP), row(own, 5)])

    assert plot.adopted == []
    assert plot.ann.facts.drops[Drop.BASE_OF_NO_USE] == 1
