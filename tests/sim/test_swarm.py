"""Many seeds under every fault, and that a seed is all there is to a run."""

import os
import subprocess
import sys

import pytest

from flc_udp.config import Settings
from flc_udp.sim.plan import Plan
from flc_udp.sim.play import Play


@pytest.mark.parametrize("seed", range(100))
def test_every_promise_is_kept_under_every_fault(seed: int) -> None:
    """A hundred small plays, always the same, with every fault: safe always, then one.

    Larger ones, drawn from new seeds, are played each night.
    """
    nodes, rate = 2 + seed % 4, (10, 25, 50)[seed % 3]
    Play(
        Plan(nodes=nodes, rate=rate, loss=25, duplicate=10, seconds=3, seed=seed, faults="all")
    ).run()


def test_a_seed_that_was_only_heard_is_asked_again() -> None:
    """Its answers were lost, and a piece of its news came: the newcomer asked nobody any more.

    Nor does anybody ask for the newcomer, whose id a copy of its disk has by then.
    """
    words = {"nodes": 4, "loss": 40, "duplicate": 10, "rate": 13, "faults": "all", "seed": 700_317}
    assert Play(Plan(**words)).run().converged_after_ms <= 30_000  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "seed",
    [
        800_199,  # A dead member was heard, all answers to it were lost, and nobody asked it again.
        800_607,  # A block that is gone, since a base was taken, could not be written anew.
        800_688,  # Nor was it ever found anywhere.
        800_820,  # A post in a new log was answered after a commit of the log before.
    ],
)
def test_seeds_that_once_broke_a_promise(seed: int) -> None:
    """Each as it is drawn, with its own number of nodes."""
    Play(Plan.draw(seed)).run()


@pytest.mark.parametrize("nodes", [1, 2, 12])
def test_clusters_of_other_sizes_keep_them_too(nodes: int) -> None:
    """One node alone, two, and more than have links to each other."""
    Play(Plan(nodes=nodes, loss=25, duplicate=10, seconds=4, seed=nodes, faults="all")).run()


@pytest.mark.parametrize("seed", [16, 20, 25, 47])
def test_bad_parameters_end_equal_soon_after_healing(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Four of ten datagrams lost, small pulls, commits of a block, one link: within 30 s.

    Each of these seeds once took longer, one of them a minute.
    """
    settings = Settings(
        packet_bytes_max=1_200,
        links_max=1,
        pull_bytes_max=2_048,
        holdback_blocks_max=16,
        commit_blocks_max=1,
    )
    monkeypatch.setattr(Plan, "draw_settings", lambda _: settings)
    figures = Play(Plan(nodes=5, loss=40, duplicate=10, seed=seed, faults="all")).run()

    assert figures.converged_after_ms <= 30_000


def test_one_seed_has_one_trace() -> None:
    """The same plan is the same run to the last line, another seed another."""
    plan = Plan(nodes=4, loss=25, duplicate=10, seconds=3, seed=7, faults="all")
    figures = Play(plan).run()

    assert figures == Play(plan).run()
    other = Plan(nodes=4, loss=25, duplicate=10, seconds=3, seed=8, faults="all")
    assert Play(other).run().trace != figures.trace


def test_one_seed_has_one_trace_in_every_process() -> None:
    """Nothing depends on the order of hashes, which every process draws anew."""
    words = "sim --nodes 4 --loss 25 --duplicate 10 --seconds 3 --seed 7 --faults all --json"
    printed = [
        subprocess.run(
            [sys.executable, "-m", "flc_udp", *words.split()],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert printed[0] == printed[1]
    plan = Plan(nodes=4, loss=25, duplicate=10, seconds=3, seed=7, faults="all")
    assert Play(plan).run().trace in printed[0].decode()
