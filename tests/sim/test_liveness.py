import pytest

from bench.experiments import (
    Anomalies,
    MemberWatch,
    agreed_after,
    anomalies,
    detect,
    grown,
    id_of,
    islands,
    lossy,
    rate,
    restart_all,
)
from flc_udp.config import Settings
from flc_udp.core.notices import Refuted
from flc_udp.model.dots import Dot
from flc_udp.model.notices import Notice
from flc_udp.model.units import MS_US, SECOND_US
from flc_udp.sim.network import Faults
from flc_udp.sim.world import World
from flc_udp.waist import node, pruning, scrub, sessions
from flc_udp.waist.notices import StoodStill
from flc_udp.wire.rows import State


@pytest.mark.parametrize(("nodes", "limit_ms"), [(5, 3_000), (10, 3_000), (60, 5_500)])
def test_a_crash_is_known_to_all_soon(nodes: int, limit_ms: int) -> None:
    """The median of five crashes; between the first and the last to know are milliseconds."""
    times = []
    for seed in range(5):
        with grown(nodes, seed) as world:
            first, last = detect(world, list(world.machines)[-1])
            times.append(last)

            assert last - first < 200

    assert sorted(times)[2] <= limit_ms


def test_a_quiet_cluster_costs_a_node_the_same_at_any_size() -> None:
    """A ping and an ack an interval of 800 ms, of ten or of forty, once each has met each."""
    for nodes in (10, 40):
        with grown(nodes, 1) as world:
            world.run(nodes * 2_000)
            quiet = rate(world, 8)

        assert quiet.packets_per_s == pytest.approx(2.5, rel=0.03)
        assert quiet.bytes_per_s < 265


@pytest.mark.parametrize("seed", range(2))
def test_stalled_machines_wrong_nobody(seed: int) -> None:
    """Eight of 24 stand still again and again, deaf meanwhile: no healthy member dies of it."""
    with grown(24, seed, faults=Faults(pause_datagrams_max=0)) as world:
        wronged = anomalies(world, Anomalies(stalled=(8,), seconds=30))

        assert wronged.told == 0


def test_plain_swim_blames_others() -> None:
    """The same without Lifeguard: what it is for. Stalled nodes suspect the healthy."""
    settings = Settings(lifeguard=False)
    with grown(24, 1, faults=Faults(pause_datagrams_max=0), settings=settings) as world:
        wronged = anomalies(world, Anomalies(stalled=(8,), seconds=60, run_ms=(1, 100)))

        assert wronged.suspicions > 0


@pytest.mark.parametrize("nodes", [3, 16])
def test_a_tenth_lost_kills_nobody(nodes: int) -> None:
    """Two minutes at 10% loss: no false death."""
    with grown(nodes, 1, faults=Faults(loss=0.1)) as world:
        assert lossy(world, 120).told == 0


@pytest.mark.parametrize("nodes", [3, 5, 10])
def test_a_one_way_cut_does_not_flap(nodes: int) -> None:
    """Where a does not reach b and others do, nobody is even suspected."""
    with grown(nodes, 1) as world:
        first, second, *_ = world.machines
        world.cut(first, second, one_way=True)

        assert lossy(world, 120).suspicions == 0


def test_all_restarted_at_once_see_each_other() -> None:
    """Forty nodes lose their memory at one moment; once each has met each, they are quiet again."""
    with grown(40, 1) as world:
        assert restart_all(world) <= 10_000
        world.run(80_000)
        assert rate(world, 5).packets_per_s <= 2.7


def test_islands_are_one_cluster_soon_after_the_cut() -> None:
    """A minute apart, one within ten seconds, quiet ten seconds later."""
    with grown(12, 1) as world:
        assert islands(world, 60) <= 10_000
        world.run(10_000)
        assert rate(world, 5).packets_per_s <= 2.7


@pytest.mark.parametrize("reap_after_s", [20, 86_400])
def test_islands_that_merge_bury_nobody_of_their_own(reap_after_s: int) -> None:
    """What each held of the other's members is doubted when they meet, and refuted."""
    for seed in range(3):
        with grown(10, seed, settings=Settings(reap_after_s=reap_after_s)) as world:
            halves = list(world.machines)[:5], list(world.machines)[5:]
            world.partition(halves[0])
            world.run(60_000)
            watch = MemberWatch(world)
            world.heal()
            agreed_after(world)

            home = {id_of(world.machines[name]): names for names in halves for name in names}
            names = list(world.machines)
            assert [d for d in watch.deaths if names[d[1]] in home[d[2]]] == []


def test_islands_that_reaped_each_other_are_one_cluster_too() -> None:
    """Longer apart than the dead are kept: within one rejoin interval."""
    settings = Settings(reap_after_s=20)
    with grown(12, 1, settings=settings) as world:
        assert islands(world, 90) <= settings.rejoin_interval_ms


def crash_one(world: World) -> None:
    """One dies and stays so."""
    detect(world, list(world.machines)[-1])


def lose_a_quarter(world: World) -> None:
    """Half a minute of it."""
    world.network.faults = Faults(loss=0.25)
    world.run(30_000)
    world.calm()


def cut_one_way(world: World) -> None:
    """A minute of it."""
    first, second, *_ = world.machines
    world.cut(first, second, one_way=True)
    world.run(60_000)
    world.heal()


def leave_and_come_back(world: World) -> None:
    """In good order, and back again."""
    name = list(world.machines)[1]
    world.machines[name].leave()
    world.run(3_000)
    world.start(name)


UNREST = {
    "a crash": crash_one,
    "stalls": lambda world: anomalies(world, Anomalies((5,), 20, stall_ms=(500, 4_000))),
    "a quarter lost": lose_a_quarter,
    "a one-way cut": cut_one_way,
    "all restarted": restart_all,
    "islands": lambda world: islands(world, 60),
    "a leave and a return": leave_and_come_back,
}


@pytest.mark.parametrize("what", UNREST)
def test_whatever_happened_it_is_quiet_ten_seconds_later(what: str) -> None:
    """A ping and an ack an interval again, and next to nothing else: no storm feeds itself.

    Who was stalled doubts itself for a while and probes more rarely; the dead are asked for.
    """
    with grown(20, 3) as world:
        before = rate(world, 10)
        UNREST[what](world)
        world.run(10_000)
        after = rate(world, 10)

        assert after.packets_per_s <= 1.1 * before.packets_per_s
        assert after.bytes_per_s <= 1.2 * before.bytes_per_s


def test_newcomers_at_once_see_each_other() -> None:
    """Thirty nodes that know two seeds and nothing else."""
    with World(30, 1) as world:
        assert agreed_after(world) <= 10_000


@pytest.mark.parametrize("pauses_s", [(1, 3, 5), (20, 60), (600,)])
def test_who_stands_still_comes_back(pauses_s: tuple[int, ...]) -> None:
    """No other is called dead by anybody, and all agree within seconds of its return.

    Nothing that was said meanwhile or just before is pruned too early, and people are told.
    """
    settings = Settings(retention_age_s=900)
    with grown(5, 1, settings=settings) as world:
        watch, paused = MemberWatch(world), world.machines["c"].running
        told: list[int] = []
        world.listeners.append(
            lambda _number, notice: told.append(notice.ms) if type(notice) is StoodStill else None
        )
        for pause_s in pauses_s:
            world.say("c", "ops", f"before {pause_s}")
            world.run(500)
            world.machines["c"].pause(pause_s * SECOND_US)
            world.say("a", "ops", f"during {pause_s}")
            world.run(pause_s * 1_000)

            assert agreed_after(world) <= 3_000
            stood_ms = paused.last_pause.ms if paused.last_pause else 0
            assert pause_s == 1 or 0 <= pause_s * 1_000 - stood_ms <= 1_000
            health = paused.facts().health
            assert 2 * health.score < health.score_max  # It is well again.

        assert {paused.me.id.hex()} >= {subject for _, _, subject in watch.deaths}
        assert len(told) == len([pause_s for pause_s in pauses_s if pause_s > 1])
        world.settle()
        said = [f"{when} {pause_s}" for pause_s in pauses_s for when in ("before", "during")]
        assert world.history("c", "ops") == said


@pytest.mark.parametrize("apart_ms", [0, 400])
@pytest.mark.parametrize("pause_s", [1, 10, 60, 600])
def test_all_that_stand_still_at_once_go_on(pause_s: int, apart_ms: int) -> None:
    """As where their host was suspended: nobody is called dead, and status can say of each why.

    They may wake one after another. Nothing that was said before is pruned too early.
    """
    with grown(5, 1, settings=Settings(retention_age_s=900)) as world:
        watch = MemberWatch(world)
        world.say("c", "ops", "before")
        world.run(500)
        for number, machine in enumerate(world.machines.values()):
            machine.pause(pause_s * SECOND_US + number * apart_ms * MS_US)
        world.run(pause_s * 1_000 + 5 * apart_ms)

        assert agreed_after(world) <= 3_000
        assert watch.deaths == []
        for machine in world.machines.values():
            stood = machine.running.last_pause
            assert stood is not None or pause_s == 1
            assert stood is None or pause_s * 1_000 - 1_000 <= stood.ms <= pause_s * 1_000 + 2_000
        world.say("a", "ops", "after")
        world.settle()
        assert world.history("e", "ops") == ["before", "after"]


YEAR_S = 365 * 86_400


def restart_one_by_one(world: World) -> None:
    """Each is seen alive by all within a second of its start, at its first word about itself.

    What it says before it has proved its new session is repaired as any loss.
    """
    refuted: list[Notice] = []
    world.listeners.append(
        lambda _number, notice: refuted.append(notice) if type(notice) is Refuted else None
    )
    alive = dict.fromkeys(world.machines, State.ALIVE)
    for name in world.machines:
        world.crash(name)
        world.run(10)
        world.start(name)
        said = world.say(name, "ops", f"{name} is back")
        world.run(1_000)

        assert [world.view(other) for other in world.machines] == [alive] * len(alive)
        assert isinstance(said.answer, Dot)
        world.run(2_000)
        assert {world.history(other, "ops")[-1] for other in world.machines} == {f"{name} is back"}
    assert refuted == []


def test_peers_that_restart_after_a_year_are_accepted_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All have been up for a year, which is played with a turn a day; one was down all the time."""
    for module, name in (
        (node, "PAUSE_LEAST_US"),
        (scrub, "LOOK_PAUSE_US"),
        (scrub, "PASS_PAUSE_US"),
        (pruning, "LOOK_PAUSE_MAX_US"),
    ):
        monkeypatch.setattr(module, name, 86_400 * SECOND_US)
    monkeypatch.setattr(sessions, "RENEWED_US", 30 * 86_400 * SECOND_US)  # They meet once a day.
    daily = dict.fromkeys(
        ("probe_interval_ms", "rejoin_interval_ms", "exchange_interval_ms", "exchange_backoff_ms"),
        86_400_000,
    )
    settings = Settings(stall_ms=60_000, retention_age_s=YEAR_S // 2, **daily)  # type: ignore[arg-type]
    with World("abcd", 1, settings=settings) as world:
        world.run(1_000)
        for name in "ab":
            world.say(name, "ops", "a year ago")
        world.run(1_000)
        world.crash("d")
        world.run(YEAR_S * 1_000)
        world.say("a", "ops", "a year later")
        world.run(1_000)
        assert world.history("b", "ops") == ["a year later"]
        assert {name: world.view("a")[name] for name in "abc"} == dict.fromkeys("abc", State.ALIVE)
        world.start("d")
        world.run(1_000)
        restart_one_by_one(world)


def test_peers_that_restart_after_a_year_of_sleep_are_accepted_at_once() -> None:
    """All machines stood still for that long: the next to restart has a much later clock."""
    with grown(4, 1) as world:
        world.say("a", "ops", "a year ago")
        world.run(500)
        for machine in world.machines.values():
            machine.pause(YEAR_S * SECOND_US)
        world.run(YEAR_S * 1_000)
        assert agreed_after(world) <= 3_000
        restart_one_by_one(world)
        world.settle()


@pytest.mark.parametrize("seed", range(3))
def test_tags_reach_everybody_through_loss_and_cuts(seed: int) -> None:
    """Given at the start, changed while some are cut off, and kept through suspicion and death."""
    names = ["ann", "ben", "cho", "dee", "eli"]
    own = {name: Settings(tags=(f"name={name}",)) for name in names}
    with World(names, seed, Faults(loss=0.25), own=own) as world:
        world.run(5_000)
        world.cut("ann", "ben")
        world.crash("cho")
        for name in ("ann", "dee"):
            own[name] = Settings(tags=("name=other", f"was={name}"))
            machine = world.machines[name]
            assert machine.node is not None
            machine.node.reload(own[name])
        world.run(20_000)
        world.start("cho")
        world.heal()
        world.calm()
        world.settle()

        wanted = {name: tuple(sorted(own[name].tags)) for name in names}
        for machine in world.machines.values():
            assert machine.node is not None
            members = machine.node.facts().members
            assert wanted == {m.row.name: tuple(map(str, m.row.tags)) for m in members}
