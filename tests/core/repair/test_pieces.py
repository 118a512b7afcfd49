from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flc_udp.config import PIECE_BYTES
from flc_udp.core.repair import pieces as room
from flc_udp.core.repair.pieces import Pieces
from flc_udp.model.block import Block, decode, hash_of
from flc_udp.model.dots import Dot
from flc_udp.model.errors import Drop
from flc_udp.wire.packets import Piece
from flc_udp.wire.packing import pieces_of
from tests.model.stories import Story


def large(size: int = 10_000, seed: int = 0) -> Block:
    """A block of about so many bytes."""
    return Story().say("ann", body=Random(seed).randbytes(size))


def whole_of(pieces: Pieces, told: list[Piece]) -> list[bytes]:
    """What comes out of telling these."""
    return [whole for piece in told if (whole := pieces.add(piece)) is not None]


@given(
    st.integers(1, 8 * PIECE_BYTES),
    st.randoms(use_true_random=False),
    st.integers(1, 3),
)
def test_any_order_with_duplicates_makes_the_block(size: int, random: Random, copies: int) -> None:
    """The pieces of one block in any order are that block's bytes, and nothing is left."""
    block = large(size)
    told = list(pieces_of(block.encoded)) * copies
    random.shuffle(told)
    pieces = Pieces(Counter())
    seen = set()
    for piece in told:
        seen.add(piece.number)
        whole = pieces.add(piece)
        if whole is not None:
            break

    assert block.encoded == whole
    assert set(range(-(-len(block.encoded) // PIECE_BYTES))) == seen
    assert pieces.held_bytes == 0


def test_pieces_of_two_tellers_fit_each_other() -> None:
    """Offsets are fixed: the even ones of one and the odd ones of another are the whole."""
    block = large()
    told = list(pieces_of(block.encoded))
    pieces = Pieces(Counter())

    assert whole_of(pieces, told[::2]) == []
    assert [block.encoded] == whole_of(pieces, told[1::2])


def test_what_is_missing_is_named_in_spans() -> None:
    """Of ten pieces with 2, 3 and 9 told there lack 0-1 and 4-8; asking for these is enough."""
    block = large(10 * PIECE_BYTES - 200)
    told = list(pieces_of(block.encoded))
    pieces = Pieces(Counter())
    whole_of(pieces, [told[2], told[3], told[9]])

    assert pieces.missing(block.dot) == (0, 1, 4, 8)
    asked = pieces_of(block.encoded, pieces.missing(block.dot))
    assert [block.encoded] == whole_of(pieces, list(asked))
    assert pieces.missing(block.dot) == ()


def test_spans_beyond_the_end_are_cut() -> None:
    """Who asks for more than there is gets what there is, and never a wrong piece."""
    block = large(3 * PIECE_BYTES)
    count = -(-len(block.encoded) // PIECE_BYTES)

    assert [count - 1] == [p.number for p in pieces_of(block.encoded, (count - 1, 1_000))]
    assert list(pieces_of(block.encoded, (count, 1_000))) == []


def test_a_lie_about_hash_or_total_is_found_and_the_truth_taken() -> None:
    """What does not hash to what was said is no block; told again rightly it is."""
    block = large()
    told = list(pieces_of(block.encoded))
    pieces = Pieces(Counter())

    assert whole_of(pieces, [p._replace(hash=b"a lie---") for p in told]) == []
    assert whole_of(pieces, [told[0]._replace(total=500_000)]) == []
    assert [block.encoded] == whole_of(pieces, told)
    assert pieces.held_bytes == 0


def test_a_flipped_byte_is_found() -> None:
    """A piece with other bytes makes no block."""
    told = list(pieces_of(large().encoded))
    told[3] = told[3]._replace(data=told[3].data[:-1] + b"?")

    assert whole_of(Pieces(Counter()), told) == []


def test_a_whole_is_what_its_hash_says() -> None:
    """Whatever comes out has the hash its pieces named, and can be decoded."""
    block = large()
    (whole,) = whole_of(Pieces(Counter()), list(pieces_of(block.encoded)))

    assert block.hash == hash_of(whole)
    assert block == decode(whole)


def test_what_came_some_other_way_is_forgotten() -> None:
    """And its memory given back; to forget what was never begun is no error."""
    block = large()
    pieces = Pieces(Counter())
    whole_of(pieces, list(pieces_of(block.encoded))[:-1])
    pieces.forget(block.dot)
    pieces.forget(Dot(b"unknown-", 1))

    assert (pieces.held_bytes, pieces.missing(block.dot)) == (0, ())


class TestBounds:
    def half(self, number: int, total: int = 20 * PIECE_BYTES, piece: int = 0) -> Piece:
        """A piece of a block that never ends."""
        return Piece(number.to_bytes(8, "big"), 1, b"nothing-", total, piece, bytes(PIECE_BYTES))

    def test_unfinished_blocks_are_bounded_in_number(self) -> None:
        """A sender of first pieces only fills no memory: the longest untouched go first."""
        drops = Counter[Drop]()
        pieces = Pieces(drops)
        for number in range(3 * room.PARTIALS_MAX):
            pieces.add(self.half(number))

        assert pieces.held_bytes == room.PARTIALS_MAX * PIECE_BYTES
        assert drops[Drop.PIECES_OVERFLOW] == 2 * room.PARTIALS_MAX
        assert pieces.missing(Dot(bytes(8), 1)) == ()
        assert pieces.missing(Dot((3 * room.PARTIALS_MAX - 1).to_bytes(8, "big"), 1)) != ()

    def test_unfinished_blocks_are_bounded_in_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever was declared, memory grows with what came, and only up to the bound."""
        monkeypatch.setattr(room, "PARTIAL_BYTES_MAX", 50 * PIECE_BYTES)
        drops = Counter[Drop]()
        pieces = Pieces(drops)
        for number in range(20):
            for piece in range(19):
                pieces.add(self.half(number, piece=piece))

                assert pieces.held_bytes <= 50 * PIECE_BYTES

        assert drops[Drop.PIECES_OVERFLOW] > 0

    def test_an_honest_block_passes_between_hostile_ones(self) -> None:
        """One that keeps coming is never the longest untouched."""
        pieces = Pieces(Counter())
        block = large()
        wholes = []
        for at, piece in enumerate(pieces_of(block.encoded)):
            wholes += whole_of(pieces, [piece])
            for number in range(room.PARTIALS_MAX - 1):
                pieces.add(self.half((at + 1) * 10_000 + number))

        assert [block.encoded] == wholes

    def test_a_lie_is_not_counted_twice(self) -> None:
        """Memory of a replaced lie is given back."""
        pieces = Pieces(Counter())
        for total in range(5, 100):
            pieces.add(self.half(1, total=total * PIECE_BYTES))

        assert pieces.held_bytes == PIECE_BYTES
