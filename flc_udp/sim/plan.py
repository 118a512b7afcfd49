"""Plans: what a play depends on, and what its seed adds to it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Annotated, NamedTuple

from flc_udp.config import Settings
from flc_udp.sim.network import Faults

FAULTS = ("all", "network", "none")

SEEDS = 2
"""This many machines, the first ones, are the seeds that all others join by."""

RETENTION_BYTES = (90_000, 250_000)
"""Limits are drawn from this range. An empty database takes 70 kB, and the talk of ten seconds
about as much again."""

COPIES = 1_500
COPIES_A_SECOND = 2_500
"""So many messages times nodes a drawn play has, about, and in a second at most."""

NODES_MAX = 1_000
SEED_LIMIT = 1 << 64


class Within(NamedTuple):
    """A number that people choose: what it is, and what is allowed."""

    low: float
    high: float
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a play depends on. Each field is an option of `flc sim`."""

    nodes: Annotated[int, Within(1, NODES_MAX, "nodes of the cluster")] = 5
    loss: Annotated[float, Within(0, 90, "percent of datagrams lost")] = 0
    duplicate: Annotated[float, Within(0, 90, "percent of datagrams that arrive twice")] = 0
    seconds: Annotated[float, Within(0, 86_400, "virtual seconds that people talk")] = 10
    rate: Annotated[float, Within(0, 100_000, "messages a second, over all nodes")] = 20
    authors: Annotated[int, Within(0, NODES_MAX, "nodes that speak, all of them if 0")] = 0
    warm_up: Annotated[float, Within(0, 86_400, "seconds of talk before anything is measured")] = 0
    """The tree settles in this time."""
    delay: Annotated[
        float, Within(0.1, 10_000, "ms a datagram takes at most, at least a tenth")
    ] = 2
    busy: Annotated[
        int, Within(0, 1_000_000, "µs that a block keeps a node busy, a datagram a tenth of it")
    ] = 0
    faults: str = "none"
    seed: Annotated[int, Within(0, SEED_LIMIT - 1, "everything by chance comes from it")] = 0

    @classmethod
    def draw(cls, seed: int) -> "Plan":
        """Draw a play with every fault: of 2 to 30 nodes, and 1 to 500 messages a second.

        The more nodes there are, the fewer messages, and the shorter the talk. So a play takes some
        seconds.
        """
        random = Random(f"{seed}/plan")
        nodes = round(_drawn(random, 2, 30))
        rate = round(_drawn(random, 1, min(500, COPIES_A_SECOND / nodes)))
        return cls(
            nodes=nodes,
            loss=random.choice((0, 2, 10, 25, 40)),
            duplicate=random.choice((0, 10)),
            seconds=round(min(max(COPIES / nodes / (rate + 10), 1), 10), 1),
            rate=rate,
            faults="all",
            seed=seed,
        )

    def command(self) -> str:
        """Return the command that plays it again."""
        words = ["flc sim"]
        for name, value in asdict(self).items():
            number = f"{value:g}" if isinstance(value, float) else str(value)
            words.append(f"--{name.replace('_', '-')} {number}")
        return " ".join(words)

    def draw_faults(self) -> Faults:
        """Draw the faults of this seed. Not all come at once, or they would hide each other."""
        random = Random(f"{self.seed}/faults")
        faults = Faults(
            loss=self.loss / 100,
            duplicate=self.duplicate / 100,
            delay_us_min=int(self.delay * 100),
            delay_us_max=int(self.delay * 1_000),
            block_us=self.busy,
        )
        if self.faults != "none":
            faults = _draw_network(faults, random)
        return _draw_machines(faults, random) if self.faults == "all" else faults

    def draw_settings(self) -> Settings:
        """Draw settings with low limits, so that they are met, where everything may go wrong."""
        random = Random(f"{self.seed}/settings")
        if self.faults != "all" or random.random() < 1 / 2:
            return Settings()
        return Settings(
            packet_bytes_max=random.choice((1_200, 1_400, 8_192)),
            links_max=random.choice((1, 3, 8)),
            pull_bytes_max=random.choice((2_048, 131_072)),
            holdback_blocks_max=random.choice((16, 200, 16_384)),
            commit_blocks_max=random.choice((1, 10, 4_096)),
        )

    def draw_own(self, names: Sequence[str]) -> dict[str, Settings]:
        """Draw what each node keeps. In half of the seeds all nodes keep everything."""
        random = Random(f"{self.seed}/retention")
        if self.faults != "all" or random.random() >= 1 / 2:
            return {}
        # Where nobody keeps everything, a node that comes late has to take a base.
        kinds = random.choice((("all", "age", "bytes"), ("age", "bytes"), ("age",), ("bytes",)))
        settings = self.draw_settings()
        return {name: draw_retention(settings, random.choice(kinds), random) for name in names}

    def draw_late(self, names: Sequence[str]) -> dict[str, int]:
        """Draw {name: ms} of nodes that start only then, when much is pruned already."""
        random = Random(f"{self.seed}/late")
        if not self.draw_own(names):
            return {}
        later = [name for name in names[SEEDS:] if random.random() < 1 / 3]
        return {name: int(random.uniform(0.3, 1) * self.seconds * 1_000) for name in later}


def draw_retention(settings: Settings, kind: str, random: Random) -> Settings:
    """Draw how much is kept: everything, up to an age, or a number of bytes."""
    settings = replace(settings, retention_age_s=0, retention_bytes=0)
    if kind == "age":
        return replace(settings, retention_age_s=random.randint(1, 4))
    if kind == "bytes":
        return replace(settings, retention_bytes=random.randint(*RETENTION_BYTES))
    return settings


def _drawn(random: Random, low: float, high: float) -> float:
    """A number from a range, and as likely below as above the middle of its orders of magnitude."""
    return math.exp(random.uniform(math.log(low), math.log(high)))


def _sometimes(random: Random, low: float, high: float) -> float:
    value = random.uniform(low, high)
    return value if random.random() < 2 / 3 else 0


def _draw_network(faults: Faults, random: Random) -> Faults:
    return replace(
        faults,
        corrupt=_sometimes(random, 0, 0.05),
        delay_us_max=random.choice((2_000, 20_000, 80_000)),
        late=_sometimes(random, 0, 0.02),
        cut_interval_ms=int(_sometimes(random, 500, 5_000)),
        partition_interval_ms=int(_sometimes(random, 2_000, 10_000)),
    )


def _draw_machines(faults: Faults, random: Random) -> Faults:
    return replace(
        faults,
        commit_us_max=random.choice((1_000, 4_000, 60_000)),
        commit_stall=_sometimes(random, 0, 0.02),
        commit_failure=_sometimes(random, 0, 0.05),
        commit_doubt=_sometimes(random, 0, 0.02),
        crash_before_commit=_sometimes(random, 0, 0.01),
        crash_after_commit=_sometimes(random, 0, 0.01),
        crash_interval_ms=int(_sometimes(random, 1_000, 8_000)),
        leave=_sometimes(random, 0, 0.5),
        pause_interval_ms=int(_sometimes(random, 1_000, 8_000)),
        snapshot_interval_ms=1_000,
        put_back=_sometimes(random, 0.1, 0.7),
        wall_offset_ms_max=random.choice((0, 500, 3_600_000)),
        rot_interval_ms=int(_sometimes(random, 500, 5_000)),
        unreadable_interval_ms=int(_sometimes(random, 1_000, 8_000)),
        save_failure=_sometimes(random, 0, 0.5),
        away_interval_ms=int(_sometimes(random, 2_000, 10_000)),
        full_interval_ms=int(_sometimes(random, 2_000, 10_000)),
        reload_interval_ms=int(_sometimes(random, 500, 5_000)),
        rekey_interval_ms=int(_sometimes(random, 1_000, 8_000)),
        clone_interval_ms=int(_sometimes(random, 5_000, 40_000)),
        clock_interval_ms=int(_sometimes(random, 500, 8_000)) if random.random() < 1 / 2 else 0,
    )
