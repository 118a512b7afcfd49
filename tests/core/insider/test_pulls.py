"""An insider pulls more than any node names: nobody ends, and nobody answers at length."""

import pytest

from flc_udp.config import STAMP_LIMIT
from flc_udp.core.repair.pull_packets import LOGS_PER_PULL, WANTS_PER_PULL
from flc_udp.model.dots import LogId
from flc_udp.model.errors import Drop
from flc_udp.wire.packets import Pull, ReplayEnd
from flc_udp.wire.rows import Want
from tests.core.dialogue import Talk


def log(number: int) -> LogId:
    """A made-up log."""
    return LogId(number.to_bytes(8, "big"))


@pytest.mark.parametrize(
    ("wants", "answers"),
    [
        ([Want(log(n), 1, 9) for n in range(LOGS_PER_PULL)], 1),
        ([Want(log(n), 1, 9) for n in range(LOGS_PER_PULL + 1)], 0),
        ([Want(log(n), 1, 9) for n in range(2_500)], 0),
        ([Want(log(1), n, n) for n in range(1, WANTS_PER_PULL + 2)], 0),
    ],
)
def test_a_pull_for_more_than_a_datagram_names_is_not_answered(
    wants: list[Want], answers: int
) -> None:
    """The answer would name all that is lacking, and outgrow a datagram."""
    talk = Talk("ann", "bob")
    talk.meet()
    talk["ann"].hear(talk["bob"], Pull(7, 1 << 20, False, 0, STAMP_LIMIT, tuple(wants)))
    talk["ann"].carry_out()
    talk.run(1_000)

    ends = [packet for _, _, packet in talk.heard if isinstance(packet, ReplayEnd)]
    assert len(ends) == answers
    assert talk["ann"].facts.drops[Drop.PULL_TOO_MANY] == 1 - answers
