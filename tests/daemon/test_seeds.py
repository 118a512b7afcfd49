"""Seeds by name, with a resolver that a test answers for."""

import asyncio
from collections.abc import Callable

import pytest

from flc_udp.daemon import seeds
from flc_udp.daemon.failures import Failures
from flc_udp.model.address import Address
from flc_udp.model.errors import FlcError
from tests.daemon.process import until

ANN, BOB = Address("10.0.0.1", 7352), Address("fd00::2", 7352)


class Resolver:
    """What names resolve to now; None is no answer. Remembers the look-ups."""

    def __init__(self, found: dict[str, list[Address] | None]) -> None:
        self.found = found
        self.asked: list[str] = []

    async def resolve(self, name: str) -> list[Address]:
        """As `udp.resolve`."""
        self.asked.append(name)
        addresses = self.found[name]
        if addresses is None:
            raise FlcError(f"{name!r} has no address", "write one that has")
        return addresses


class Joining:
    """`keep_joining` under way; `joined` are the addresses it asked for, `live` who is there."""

    def __init__(self, resolver: Resolver, *names: str) -> None:
        self.joined: list[Address] = []
        self.live: set[Address] = set()
        self.resolver = resolver
        failures = Failures()
        self._task = asyncio.gather(
            *(
                seeds.keep_joining(name, self.joined.extend, lambda: self.live, failures)
                for name in names
            )
        )

    async def asked_more(self, times: int) -> None:
        """Wait for so many look-ups more."""
        asked = self.resolver.asked
        enough = len(asked) + times
        await until("it is looked up again", self._have(lambda: len(asked) >= enough))

    def _have(self, look: Callable[[], bool]):  # noqa: ANN202  # what `until` takes
        async def found() -> bool:
            assert not self._task.done()
            return look()

        return found

    def stop(self) -> None:
        """No more look-ups."""
        self._task.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds: what is tested is their order, not their length."""
    monkeypatch.setattr(seeds, "RETRY_MIN_S", 0.001)
    monkeypatch.setattr(seeds, "RETRY_MAX_S", 0.004)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """In place of the system's."""
    resolver = Resolver({})
    monkeypatch.setattr(seeds, "resolve", resolver.resolve)
    return resolver


async def test_all_addresses_of_all_names_are_joined(resolver: Resolver) -> None:
    """Of both families; and one name that has none holds up no other."""
    resolver.found = {"both": [ANN, BOB], "none": None}
    joining = Joining(resolver, "none", "both")
    await joining.asked_more(2)
    joining.stop()

    assert joining.joined == [ANN, BOB]


async def test_a_name_that_has_no_address_yet_is_looked_up_again(resolver: Resolver) -> None:
    """A resolver that comes late costs a pause, not the membership."""
    resolver.found = {"ann": None}
    joining = Joining(resolver, "ann")
    await joining.asked_more(3)
    resolver.found["ann"] = [ANN]
    await joining.asked_more(2)
    joining.stop()

    assert joining.joined == [ANN]


async def test_a_silent_name_that_moved_is_joined_where_it_is_now(resolver: Resolver) -> None:
    """A pod that came back elsewhere is found by its name; the old address is asked once."""
    resolver.found = {"ann": [ANN]}
    joining = Joining(resolver, "ann")
    await joining.asked_more(2)
    resolver.found["ann"] = [BOB]
    await joining.asked_more(2)
    joining.stop()

    assert joining.joined == [ANN, BOB]


async def test_a_name_somebody_answers_at_is_left_alone_until_nobody_does(
    resolver: Resolver,
) -> None:
    """With a live member at one of its addresses there is nothing to look up."""
    resolver.found = {"ann": [ANN], "silent": [BOB]}
    joining = Joining(resolver, "ann")
    joining.live = {ANN}
    await joining.asked_more(1)
    other = Joining(resolver, "silent")
    await other.asked_more(20)
    other.stop()

    assert resolver.asked.count("ann") == 1

    joining.live = set()
    await joining.asked_more(2)
    joining.stop()
