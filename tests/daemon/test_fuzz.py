"""Odd datagrams and control lines, briefly; `python -m tests.daemon.fuzz` sends a million."""

from tests.daemon.cluster import Cluster
from tests.daemon.fuzz import STATES, fuzz

DATAGRAMS_EACH = 500


async def test_odd_datagrams_and_lines_end_nobody(cluster: Cluster) -> None:
    """In every state of a node; afterwards each still takes says, and nothing has failed."""
    count = DATAGRAMS_EACH * len(STATES)
    await fuzz(cluster, count, 500, seed=1, round_datagrams=DATAGRAMS_EACH, settles=False)
