"""The event loop of a daemon: uvloop, which takes several times as many datagrams a second.

Rules. A machine where uvloop is missing or does not work runs a node on Python's own loop, which
does everything that the node needs, only slower. Whether uvloop works is tried, because a package
that is installed may still not fit the machine.
"""

import asyncio
from collections.abc import Callable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def choose() -> tuple[LoopFactory, str]:
    """The loop to run on, and why it is not uvloop: "" where it is."""
    try:
        import uvloop  # noqa: PLC0415  # a missing one ends nothing

        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it, there is another loop
        return asyncio.new_event_loop, f"{type(error).__name__}: {error}"
    return uvloop.new_event_loop, ""
