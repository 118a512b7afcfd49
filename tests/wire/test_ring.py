"""The ring: what each change makes of it, what is refused, and the file that keeps it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flc_udp.model.errors import FlcError
from flc_udp.wire import ring as rings
from flc_udp.wire.ring import KEYS_MAX, SavedRing, mark_of, read_ring, ring_text
from flc_udp.wire.seal import KEY_BYTES, OPEN, Keyring, keyring, make_key, read_keys

A, B, C = (bytes(range(at, at + KEY_BYTES)) for at in (1, 101, 201))


def ring(*sources: bytes) -> Keyring:
    """A ring of the cluster."""
    return keyring(sources, "flc")


def name(source: bytes) -> str:
    """The id of a key."""
    return ring(source).keys[0].name


class TestChanges:
    def test_a_key_that_is_added_does_not_seal(self) -> None:
        """It stands last; to an open ring it is the first key."""
        assert rings.add(ring(A), B) == ring(A, B)
        assert rings.add(ring(), B) == ring(OPEN, B)

    def test_adding_what_is_there_changes_nothing(self) -> None:
        """Whether it seals or not."""
        for secret in (A, B):
            assert rings.add(ring(A, B), secret) == ring(A, B)

    def test_what_is_used_seals_and_all_open(self) -> None:
        """The others keep their order; again, nothing."""
        assert rings.use(ring(A, B, C), name(C)) == ring(C, A, B)
        assert rings.use(ring(C, A, B), name(C)) == ring(C, A, B)
        assert rings.use(ring(B, OPEN), "open") == ring(OPEN, B)

    def test_what_is_removed_is_gone(self) -> None:
        """By its id; the open key also by the id of its datagrams."""
        assert rings.remove(ring(A, B, C), name(B)) == ring(A, C)
        assert rings.remove(ring(A, OPEN), "open") == ring(A)
        assert rings.remove(ring(A, OPEN), ring().keys[0].id.hex()) == ring(A)

    def test_what_seals_is_not_removed(self) -> None:
        """The hint says what comes first, whether there is another key or none."""
        with pytest.raises(FlcError, match=f"{name(A)} seals") as refused:
            rings.remove(ring(A, B), name(A))
        assert name(B) in refused.value.hint
        assert "flc keys use" in refused.value.hint
        with pytest.raises(FlcError, match="open seals") as refused:
            rings.remove(ring(), "open")
        assert "flc keys add" in refused.value.hint

    @pytest.mark.parametrize("change", [rings.use, rings.remove])
    def test_an_unknown_id_names_the_known_ones(self, change: object) -> None:
        """And what is no id is not repeated: it may be a secret."""
        assert callable(change)
        with pytest.raises(FlcError, match="no key 00000000") as refused:
            change(ring(A, OPEN), "00000000")
        assert f"{name(A)}, open" in refused.value.hint
        with pytest.raises(FlcError, match="8 hex digits") as refused:
            change(ring(A, OPEN), secret := make_key())
        assert secret not in str(refused.value) + refused.value.hint
        assert f"{name(A)}, open" in refused.value.hint

    def test_a_ring_is_bounded(self) -> None:
        """And says what to do about it."""
        full = ring(*(bytes([number]) * KEY_BYTES for number in range(KEYS_MAX)))
        with pytest.raises(FlcError, match=f"{KEYS_MAX} are allowed"):
            rings.add(full, A)
        assert rings.add(full, full.keys[3].secret) == full

    def test_two_keys_of_one_id_are_not_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By a chance of one in four billion: refused, before either is not heard."""
        same = Keyring(tuple(key._replace(id=b"same") for key in ring(A, B).keys), "flc")
        monkeypatch.setattr(rings, "keyring", lambda *_: same)
        with pytest.raises(FlcError, match="same id"):
            rings.add(ring(A), B)


class TestFile:
    @pytest.mark.parametrize("sources", [(A,), (A, B), (OPEN, A), (A, OPEN), (OPEN,)])
    @pytest.mark.parametrize("mark", ["", "0123abcd"])
    def test_what_is_written_is_read(
        self, tmp_path: Path, sources: tuple[bytes, ...], mark: str
    ) -> None:
        """Keys, their order, that the open key is among them, and the mark."""
        (tmp_path / "keys").write_text(ring_text(sources, mark))

        assert read_ring(tmp_path / "keys") == SavedRing(sources, mark)

    def test_a_key_file_is_a_ring_without_a_mark(self, tmp_path: Path) -> None:
        """Also one that was written by hand, with comments."""
        (tmp_path / "keys").write_text(f"# mine\n{make_key()}  # old\n\nopen # for now\n")

        held = read_ring(tmp_path / "keys")
        assert (len(held.sources), held.sources[1], held.mark) == (2, OPEN, "")

    def test_a_ring_without_the_open_key_is_a_key_file(self, tmp_path: Path) -> None:
        """For `flc ping --key-file`; one with it is not: what is given as a key file has keys."""
        path = tmp_path / "keys"
        path.write_text(ring_text((A, B), "0123"))
        assert read_keys(path) == (A, B)
        path.write_text(ring_text((A, OPEN), ""))
        with pytest.raises(FlcError, match="line 3"):
            read_keys(path)

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("", "no key"),
            ("# key file 0123\n", "no key"),
            ("opened\n", "line 1"),
            ("open\nnot base64!", "line 2"),
            ("ключ", "ASCII"),
        ],
    )
    def test_what_is_no_ring_is_named_with_a_hint(
        self, tmp_path: Path, text: str, named: str
    ) -> None:
        """And no line of it repeated."""
        (tmp_path / "keys").write_text(text)
        with pytest.raises(FlcError, match=named) as refused:
            read_ring(tmp_path / "keys")
        assert str(tmp_path / "keys") in str(refused.value)
        assert refused.value.hint

    @pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
    def test_what_is_no_file_is_refused(self, tmp_path: Path, make: Callable[[Path], None]) -> None:
        """A directory, or a pipe, whose other end a start would wait for."""
        make(tmp_path / "keys")
        with pytest.raises(FlcError, match="keys is no plain file") as refused:
            read_ring(tmp_path / "keys")
        assert refused.value.hint

    def test_a_mark_is_of_the_keys_and_their_order(self) -> None:
        """Not of comments, and not of the cluster's name."""
        assert mark_of((A, B)) == mark_of([A, B])
        assert len({mark_of((A, B)), mark_of((B, A)), mark_of((A,))}) == 3
