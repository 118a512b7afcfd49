from collections.abc import Iterator

import pytest

from tests.daemon.cluster import Cluster
from tests.daemon.halves import HALVES, talk_in_halves
from tests.daemon.namespaces import Namespaces, unavailable


@pytest.fixture
def hosts() -> Iterator[Namespaces]:
    """A host for each of four nodes; named before `cluster`, it outlives the daemons."""
    if reason := unavailable():
        pytest.skip(reason)
    with Namespaces([name for half in HALVES for name in half]) as hosts:
        yield hosts


async def test_halves_that_both_talked_on_have_one_history(
    hosts: Namespaces, cluster: Cluster
) -> None:
    """500 lines said in each half of a cut are on all four nodes after it, byte for byte."""
    await talk_in_halves(cluster, hosts, lines_each=500)
