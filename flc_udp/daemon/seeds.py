"""Seeds, which are looked up again as long as no member answers at any of their addresses.

Rules. All seeds are looked up and joined at the same time, so a dead one delays nothing. A name may
have several addresses, of both families, and other addresses tomorrow. While no live member is at
one of them, the name is looked up again, more and more rarely, but at least once in RETRY_MAX_S.
The pauses are random, so that nodes do not ask in step. Each new address is joined; core/liveness/
rejoin.py asks silent addresses again.
"""

import asyncio
from collections.abc import Callable, Collection
from random import SystemRandom

from flc_udp.daemon.failures import Failures
from flc_udp.daemon.notices import SeedUnresolved
from flc_udp.daemon.stderr import tell
from flc_udp.daemon.udp import resolve
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
"""The pause between two look-ups of a silent seed doubles from RETRY_MIN_S up to this."""

JITTER = 0.25
"""A pause is shorter by a random part up to this, so that nodes do not ask at the same time."""


async def keep_joining(
    seed: str,
    join: Callable[[list[Address]], None],
    live: Callable[[], Collection[Address]],
    failures: Failures,
) -> None:
    """Join the addresses of `seed`, until cancelled. `live` tells where members are now."""
    known: set[Address] = set()
    pause = RETRY_MIN_S
    while True:
        is_silent = known.isdisjoint(live())
        if is_silent:
            found = await _look_up(seed, failures)
            join([address for address in found if address not in known])
            known.update(found)
        wait = pause if is_silent else RETRY_MAX_S
        pause = min(2 * pause, RETRY_MAX_S) if is_silent else RETRY_MIN_S
        await asyncio.sleep(wait * SystemRandom().uniform(1 - JITTER, 1))


async def _look_up(seed: str, failures: Failures) -> list[Address]:
    try:
        return await resolve(seed)
    except FlcError as error:
        tell(SeedUnresolved(seed, str(error)))
    except Exception as error:  # noqa: BLE001  # a library that fails once may work the next time
        failures.of_part("a look-up", error)
    return []
