from tests.daemon.bodies import say_large_bodies
from tests.daemon.cluster import Cluster


async def test_large_bodies_arrive_whole_over_a_bad_network(cluster: Cluster) -> None:
    """Nine bodies of 100 kB, said on three nodes, are whole on all with a quarter of it lost."""
    await say_large_bodies(cluster, count=9, seed=3, body_bytes=100_000)
