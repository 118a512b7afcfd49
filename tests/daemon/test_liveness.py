from collections.abc import Iterator

import pytest

from tests.daemon.cluster import NAMES, Cluster
from tests.daemon.liveness import (
    bear_noise,
    cores,
    cut_one_way,
    part_and_heal,
    start_at_once,
    starve_one,
    stop_again_and_again,
)
from tests.daemon.namespaces import Namespaces, unavailable


@pytest.fixture
def hosts() -> Iterator[Namespaces]:
    """A host for each of five nodes; named before `cluster`, it outlives the daemons."""
    if reason := unavailable():
        pytest.skip(reason)
    with Namespaces(NAMES) as hosts:
        yield hosts


async def test_a_stopped_node_comes_back_and_takes_nobody_with_it(cluster: Cluster) -> None:
    """Stopped for 2 s, for 5 s: it is alive again by itself, and no other is ever called dead."""
    await stop_again_and_again(cluster, (2, 5), rounds=1, quiet_s=2)


@pytest.mark.skipif(len(cores()) < 2, reason="the others need a core, too")
async def test_a_starved_node_does_not_flap(cluster: Cluster) -> None:
    """One that shares its core with busy loops is never called dead, and suspects no other."""
    await starve_one(cluster, seconds=6)


async def test_nodes_started_at_once_find_each_other(cluster: Cluster) -> None:
    """Eight nodes that start together, with one of them as the seed, all see all alive."""
    await start_at_once(cluster, 8)


async def test_islands_become_one_cluster_again(hosts: Namespaces, cluster: Cluster) -> None:
    """Two islands that hold each other for dead merge after the heal, with equal histories."""
    await part_and_heal(cluster, hosts)


async def test_a_one_way_cut_makes_nobody_suspect(hosts: Namespaces, cluster: Cluster) -> None:
    """Where nothing of one node reaches another, but others reach both, nobody is suspected."""
    await cut_one_way(cluster, hosts, seconds=8)


async def test_a_bad_network_kills_nobody(cluster: Cluster) -> None:
    """With a tenth lost, a tenth doubled and all of it 50 ms late, no member dies."""
    await bear_noise(cluster, seconds=15, seed=8)
