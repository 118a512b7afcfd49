"""Seeds by name: looked up again for as long as nobody answers at any address they have.

Rules. All seeds are looked up and joined at once, so a dead one costs nothing. A name may have
several addresses, of both families, and others tomorrow: as long as no live member is at one of
them it is looked up anew, ever more rarely, at most RETRY_MAX_S apart and never in step with other
nodes. What was found is joined; asking silent addresses again is `core.rejoin`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from random import SystemRandom

from flc_udp.daemon.notices import SeedUnresolved
from flc_udp.daemon.stderr import tell
from flc_udp.daemon.udp import resolve
from flc_udp.model.address import Address, split_host_port
from flc_udp.model.errors import FlcError

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
"""Between two look-ups of a seed that nobody answers at: doubled from the one to the other."""

JITTER = 0.25
"""Of a pause, so much may be missing: nodes started together do not ask the resolver together."""


def check_seeds(seeds: Sequence[str]) -> None:
    """Raise FlcError for one that is no HOST:PORT, before anything is done with the others."""
    for seed in seeds:
        split_host_port(seed)


async def keep_joining(
    seeds: Sequence[str],
    join: Callable[[list[Address]], None],
    live: Callable[[], Collection[Address]],
) -> None:
    """Join what `seeds` resolve to, until cancelled; `live` is where members are now."""
    await asyncio.gather(*(_keep_joining(seed, join, live) for seed in seeds))


async def _keep_joining(
    seed: str, join: Callable[[list[Address]], None], live: Callable[[], Collection[Address]]
) -> None:
    known: set[Address] = set()
    pause = RETRY_MIN_S
    while True:
        is_silent = known.isdisjoint(live())
        if is_silent:
            found = await _look_up(seed)
            join([address for address in found if address not in known])
            known.update(found)
        wait = pause if is_silent else RETRY_MAX_S
        pause = min(2 * pause, RETRY_MAX_S) if is_silent else RETRY_MIN_S
        await asyncio.sleep(wait * SystemRandom().uniform(1 - JITTER, 1))


async def _look_up(seed: str) -> list[Address]:
    try:
        return await resolve(seed)
    except FlcError as error:
        tell(SeedUnresolved(seed, str(error)))
        return []
