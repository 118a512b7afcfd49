"""Birth: whose id a new run has, above which incarnation it begins, and whom it asks first."""

from __future__ import annotations

from random import Random
from typing import NoReturn

import pytest

from flc_udp.config import ID_BYTES, Settings
from flc_udp.model.address import Address
from flc_udp.model.dots import NodeId
from flc_udp.model.errors import StoreFailed
from flc_udp.model.history import History
from flc_udp.model.tags import parse_tags
from flc_udp.waist.birth import give_birth, remembered_addresses
from flc_udp.waist.node import Node
from flc_udp.waist.notices import PeersUnreadable
from flc_udp.waist.ports import PeerRow
from flc_udp.wire.rows import State
from flc_udp.wire.seal import SESSION_BYTES, Keyring, Seal, keyring
from tests.model.kept import KeptInList, history_of
from tests.model.stories import Story
from tests.waist.ground import WALL, ListGround

ADDRESS = Address("10.0.0.1", 7352)
RING: Keyring = keyring((b"k" * 32,), "flc")
WALL_S = WALL // 1_000


class Shelf:
    """`waist.ports.Keeps` in fields: what one run leaves to the next."""

    def __init__(self) -> None:
        self.id: NodeId | None = None
        self.saved: list[int] = []
        self.rows: list[PeerRow] = []
        self.kept = KeptInList([])

    def identity(self) -> NodeId | None:
        """The last one that was saved."""
        return self.id

    def incarnation(self) -> int:
        """The last one that was saved."""
        return max(self.saved, default=0)

    def save_self(self, node: NodeId, incarnation: int) -> None:
        """Keep them."""
        self.id = node
        self.saved.append(incarnation)

    def peers(self) -> list[PeerRow]:
        """Those of the test."""
        return self.rows

    def latest_arrival(self) -> int:
        """Nothing arrived."""
        return 0

    def load(self) -> History:
        """What the blocks say."""
        return history_of(self.kept.blocks)


class Sessions:
    """Makes seals, and remembers for which sessions."""

    def __init__(self) -> None:
        self.made: list[bytes] = []

    def __call__(self, session: bytes) -> Seal:
        """A seal of this session."""
        self.made.append(session)
        return Seal(RING, session)


class RigidRandom(Random):
    """A source of chance that begins with zeros."""

    def __init__(self, zeros: int) -> None:
        super().__init__(0)
        self._zeros = zeros

    def randbytes(self, n: int) -> bytes:
        """Zeros at first."""
        self._zeros -= 1
        return bytes(n) if self._zeros >= 0 else super().randbytes(n)


def born(
    shelf: Shelf, seed: int | Random = 0, *tags: str, sessions: Sessions | None = None
) -> Node:
    """A run of the node that has this shelf."""
    random = seed if isinstance(seed, Random) else Random(seed)
    settings = Settings(tags=tags)
    seal_of = sessions or Sessions()
    return give_birth(settings, "ann", ADDRESS, shelf, shelf.kept, seal_of, ListGround(), random)


class TestIdentity:
    def test_it_is_drawn_once_and_kept_for_life(self) -> None:
        """A later run has other chance and the same id."""
        shelf = Shelf()
        ids = [born(shelf, seed).me.id for seed in range(3)]

        assert len(set(ids)) == 1
        assert len(ids[0]) == ID_BYTES
        assert born(Shelf(), 1).me.id != ids[0]

    def test_it_is_never_a_visitors(self) -> None:
        """However often chance says so."""
        node = born(Shelf(), RigidRandom(zeros=3))

        assert any(node.me.id)

    def test_each_run_has_a_nonce_and_a_session_of_its_own(self) -> None:
        """A clone, and a datagram of a former run, are known by these."""
        shelf, sessions = Shelf(), Sessions()
        boots = [born(shelf, seed, sessions=sessions).me.boot for seed in range(3)]

        assert len(set(boots)) == 3
        assert len(set(sessions.made)) == 3
        assert {len(session) for session in sessions.made} == {SESSION_BYTES}


class TestIncarnation:
    @pytest.mark.parametrize(
        ("saved", "expected"),
        [
            ([], WALL_S),
            ([1], WALL_S),
            ([WALL_S - 1], WALL_S),
            # A second run within the second, and a clock that went back.
            ([WALL_S], WALL_S + 1),
            ([WALL_S + 500], WALL_S + 501),
            ([WALL_S + 500, 3], WALL_S + 501),
        ],
    )
    def test_it_is_above_all_that_was_ever_said_of_it(
        self, saved: list[int], expected: int
    ) -> None:
        """Above what its former runs saved, and above the seconds of the wall clock."""
        shelf = Shelf()
        shelf.saved = list(saved)
        node = born(shelf)

        assert node.me.incarnation == expected
        assert shelf.saved == [*saved, expected]

    def test_it_is_saved_before_anybody_hears_of_it(self) -> None:
        """A run that crashes at once leaves a higher one to the next."""
        shelf = Shelf()
        incarnations = [born(shelf, seed).me.incarnation for seed in range(3)]

        assert incarnations == [WALL_S, WALL_S + 1, WALL_S + 2]


def test_what_it_says_of_itself() -> None:
    """Alive, under its name, at its address, with the tags of its settings."""
    me = born(Shelf(), 0, "role=db", "dc=eu").me

    assert (me.state, me.name, me.address) == (State.ALIVE, "ann", ADDRESS)
    assert me.tags == parse_tags(["role=db", "dc=eu"])


def test_it_begins_with_what_the_log_holds() -> None:
    """Its own former messages are of other logs: this run has none before its first post."""
    shelf, story = Shelf(), Story()
    shelf.kept.blocks += [story.say("ann"), story.say("bob", "ops", "a", "b"), story.say("ann")]
    facts = born(shelf).facts()

    assert (facts.messages, facts.logs, facts.rooms) == (4, 2, 2)
    assert facts.log == bytes(8)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], []),
        (["10.0.0.2:7352", "[::1]:9"], [Address("10.0.0.2", 7352), Address("::1", 9)]),
        # A disk may hold anything: what is no address is nobody to ask.
        (["ben:7352", "10.0.0.2", "", "10.0.0.3:1"], [Address("10.0.0.3", 1)]),
    ],
)
def test_whom_it_remembers_it_can_ask(texts: list[str], expected: list[Address]) -> None:
    """They are addresses and no claims: nobody is a member for that."""
    shelf = Shelf()
    shelf.rows = [(bytes([number]) * 8, "x", text) for number, text in enumerate(texts)]

    assert remembered_addresses(shelf, ListGround()) == expected
    assert born(shelf).live_rows() == []


def test_peers_that_cannot_be_read_are_forgotten() -> None:
    """They are a memory only: the node says so once, and begins without them."""
    shelf, ground = Shelf(), ListGround()

    def fail() -> NoReturn:
        raise StoreFailed("read", "malformed")

    shelf.peers = fail  # type: ignore[method-assign]

    assert remembered_addresses(shelf, ground) == []
    assert ground.notices == [PeersUnreadable("read: malformed")]


def test_arrivals_are_never_dated_before_1970() -> None:
    """A start refuses such a row. So a clock of that time is not believed."""
    shelf, ground = Shelf(), ListGround()
    ground.set_clock(-1)
    node = give_birth(Settings(), "ann", ADDRESS, shelf, shelf.kept, Sessions(), ground, Random(0))

    assert not node.knows_ages
