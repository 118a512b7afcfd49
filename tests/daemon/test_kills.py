from tests.daemon.churn import churn
from tests.daemon.cluster import Cluster
from tests.daemon.scenarios import kill_under_load, random_faults


async def test_acknowledged_messages_survive_kill_9(cluster: Cluster) -> None:
    """Killed five times in the midst of talk, no node takes an acknowledged message with it."""
    await kill_under_load(cluster, rounds=5, seed=2)


async def test_what_flc_say_printed_survives_kill_9(cluster: Cluster) -> None:
    """A dot on stdout is a message on disk: a kill at once afterwards does not undo it."""
    ann, ben = await cluster.start(2)
    said = await ann.flc("say", "ops", "remember me")
    await ann.restart(ben.address)

    assert (said.code, said.err) == (0, "")
    assert said.out.decode().strip() in (await cluster.converged(ann, ben)).decode()


async def test_nothing_is_lost_under_random_faults(cluster: Cluster) -> None:
    """Loss, cuts, kills and pauses, drawn from a seed; then every node has the same history."""
    said, relay = await random_faults(cluster, seconds=5, seed=3)

    assert said > 0
    assert relay.carried > 0


async def test_nothing_promised_is_lost_amid_kills_backups_and_deletions(cluster: Cluster) -> None:
    """Nine clients, a bad network, databases that are deleted or put back."""
    await churn(cluster, kills=8, seed=5)
