import base64
from hashlib import blake2b
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from flc_udp.config import DATAGRAM_BYTES_MAX, WIRE_VERSION
from flc_udp.model.errors import FlcError, Malformed
from flc_udp.wire import seal
from flc_udp.wire.seal import (
    COUNTER_BYTES,
    FOR_ONE,
    HEADER_BYTES,
    KEY_BYTES,
    KEY_ID_BYTES,
    SEAL_BYTES,
    SESSION_BYTES,
    Seal,
    keyring,
    make_key,
    read_keys,
)

KEY, OTHER_KEY = bytes(range(KEY_BYTES)), bytes(range(100, 100 + KEY_BYTES))
SESSION = b"ann's session 16"


def sealer(*keys: bytes, cluster: str = "flc", session: bytes = b"bob's session 16") -> Seal:
    """One process's envelope."""
    return Seal(keyring(keys, cluster), session)


def ann() -> Seal:
    """A process that seals under KEY."""
    return sealer(KEY, session=SESSION)


def header(datagram: bytes) -> tuple[bytes, int]:
    """The session and the counter of a datagram, which stand at the end of its header."""
    counter_at = HEADER_BYTES - COUNTER_BYTES
    session = datagram[counter_at - SESSION_BYTES : counter_at]
    return session, int.from_bytes(datagram[counter_at:HEADER_BYTES], "big")


def refusal(opener: Seal, datagram: bytes) -> str:
    """Why it is refused."""
    with pytest.raises(Malformed) as refused:
        opener.open(datagram)
    return refused.value.reason


class TestOpening:
    @given(st.lists(st.binary(min_size=1, max_size=2_000), min_size=1, max_size=4))
    def test_what_is_sealed_is_opened(self, payloads: list[bytes]) -> None:
        """The same bytes, with the session and a counter that rises from 1; SEAL_BYTES longer."""
        one, other = ann(), sealer(KEY)
        for counter, drawn in enumerate(payloads, 1):
            payload = drawn.replace(bytes((FOR_ONE,)), b"\xc2")  # No payload begins with it.
            datagram = one.close(payload)

            assert len(payload) + SEAL_BYTES == len(datagram)
            assert (SESSION, counter) == header(datagram)
            assert payload == other.open(datagram).payload == one.open(datagram).payload

    def test_another_program_can_open_it(self) -> None:
        """By what the docstring of the module says to the byte, and nothing of its code."""
        name = "Käse"
        datagram = sealer(KEY, cluster=name, session=SESSION).close(b"payload")
        head, sealed = datagram[:29], datagram[29:]
        info = b"flc-udp 1 K\xc3\xa4se"
        key = HKDF(SHA256(), 32, salt=head[5:21], info=info).derive(KEY)
        key_id = blake2b(name.encode(), digest_size=4, key=KEY, person=b"flc-udp key id").digest()

        assert b"\1" + key_id + SESSION + bytes(7) + b"\1" == head
        assert AESGCM(key).decrypt(bytes(4) + head[21:], sealed, head) == b"payload"

    def test_an_open_datagram_is_opened_by_the_name(self) -> None:
        """The open key is made of the cluster's name alone, as the docstring says."""
        key = blake2b(b"flc", digest_size=32, person=b"flc-udp open").digest()
        datagram = sealer(session=SESSION).close(b"payload")

        assert sealer(key).open(datagram).payload == b"payload"

    def test_what_is_sealed_cannot_be_read(self) -> None:
        """The payload does not stand in the datagram, and equal ones differ."""
        one = ann()

        assert b"secret" not in one.close(b"secret")
        assert one.close(b"secret")[HEADER_BYTES:] != one.close(b"secret")[HEADER_BYTES:]

    def test_any_flipped_bit_is_refused(self) -> None:
        """Header, payload or tag: nothing passes, and the datagram itself still does after."""
        datagram = ann().close(b"payload")
        opener = sealer(KEY)
        for warm in (False, True):
            for bit in range(8 * len(datagram)):
                broken = bytearray(datagram)
                broken[bit // 8] ^= 1 << bit % 8
                refusal(opener, bytes(broken))
            if not warm:
                opener.open(datagram)

        assert opener.open(datagram).payload == b"payload"

    @pytest.mark.parametrize(
        ("opener", "reason"),
        [
            (sealer(OTHER_KEY), "key or cluster unknown"),
            (sealer(KEY, cluster="other"), "key or cluster unknown"),
            (sealer(), "key or cluster unknown"),
        ],
        ids=["other key", "other cluster, same key", "open"],
    )
    def test_others_are_not_heard(self, opener: Seal, reason: str) -> None:
        """Another key, another cluster with this key, and an open node stay apart."""
        assert reason == refusal(opener, ann().close(b"payload"))

    def test_a_key_of_the_same_id_in_another_cluster_opens_nothing(self) -> None:
        """The cluster's name is in the key itself, not only in its id."""
        datagram = ann().close(b"payload")
        other = keyring((KEY,), "other")
        forged = datagram[:1] + other.keys[0].id + datagram[1 + KEY_ID_BYTES :]

        assert refusal(sealer(KEY, cluster="other"), forged) == "seal broken"

    def test_any_key_of_the_ring_opens_and_the_first_seals(self) -> None:
        """So a key can be changed one node at a time."""
        both = sealer(OTHER_KEY, KEY)

        assert both.open(ann().close(b"old")).payload == b"old"
        assert sealer(OTHER_KEY).open(both.close(b"new")).payload == b"new"
        assert refusal(ann(), both.close(b"new")) == "key or cluster unknown"

    def test_open_mode_keeps_clusters_apart(self) -> None:
        """Without a key, those of one name hear each other and no others."""
        datagram = sealer(session=SESSION).close(b"hi")

        assert sealer().open(datagram).payload == b"hi"
        assert refusal(sealer(cluster="other"), datagram) == "key or cluster unknown"
        assert (keyring((), "flc").is_open, keyring((KEY,), "flc").is_open) == (True, False)

    @pytest.mark.parametrize("version", [0, WIRE_VERSION + 1, 255])
    def test_another_version_is_named(self, version: int) -> None:
        """It is not tried."""
        datagram = bytes([version]) + ann().close(b"payload")[1:]

        assert refusal(sealer(KEY), datagram) == "wire version unknown"

    @pytest.mark.parametrize("length", [0, 1, HEADER_BYTES, SEAL_BYTES, DATAGRAM_BYTES_MAX + 1])
    def test_too_short_and_too_long_are_not_looked_at(self, length: int) -> None:
        """A datagram has a least and a greatest size."""
        assert refusal(sealer(KEY), bytes([WIRE_VERSION]) * length) == "datagram size"

    def test_the_shortest_and_the_longest_are_opened(self) -> None:
        """Limits are exact."""
        for size in (1, DATAGRAM_BYTES_MAX - SEAL_BYTES):
            assert bytes(size) == sealer(KEY).open(ann().close(bytes(size))).payload

    @given(st.binary(max_size=200))
    def test_random_bytes_raise_nothing_but_malformed(self, junk: bytes) -> None:
        """Whatever comes, with a right head too."""
        head = ann().close(b"x")[:HEADER_BYTES]
        refusal(sealer(KEY), junk)
        refusal(sealer(KEY), head + junk)


class TestNonces:
    @examples(max_examples=20)
    @given(st.integers(1, 300))
    def test_no_nonce_repeats(self, count: int) -> None:
        """Each datagram of a session has a counter of its own in its header."""
        one = ann()
        heads = {one.close(b"x")[:HEADER_BYTES] for _ in range(count)}

        assert count == len(heads)

    def test_sessions_have_keys_of_their_own(self) -> None:
        """The same counter and payload under another session are other bytes."""
        one, other = ann(), sealer(KEY)

        assert one.close(b"payload")[HEADER_BYTES:] != other.close(b"payload")[HEADER_BYTES:]


class TestChangeOfKeys:
    def test_it_seals_under_the_new_key_and_opens_what_the_ring_opens(self) -> None:
        """At once, in both directions."""
        one = ann()
        one.rekey(keyring((OTHER_KEY, KEY), "flc"))

        assert sealer(OTHER_KEY).open(one.close(b"new")).payload == b"new"
        assert one.open(sealer(KEY).close(b"old")).payload == b"old"
        assert one.open(sealer(OTHER_KEY).close(b"new")).payload == b"new"

    def test_the_session_stays_and_its_counter_goes_on(self) -> None:
        """Also back under a key of before: no (key, counter) comes twice."""
        one, opener = ann(), sealer(KEY, OTHER_KEY)
        heads = []
        for first, second in ((KEY, OTHER_KEY), (OTHER_KEY, KEY), (KEY, OTHER_KEY)):
            one.rekey(keyring((first, second), "flc"))
            heads += [one.close(b"x") for _ in range(2)]

        assert [opener.open(datagram).payload for datagram in heads] == [b"x"] * 6
        assert [header(datagram) for datagram in heads] == [(SESSION, n) for n in range(1, 7)]

    def test_one_session_under_two_keys_has_two_keys_of_its_own(self) -> None:
        """The same counter under both is not one nonce under one key."""
        one, other = (sealer(key, session=SESSION).close(b"payload") for key in (KEY, OTHER_KEY))

        assert one[HEADER_BYTES - 8 : HEADER_BYTES] == other[HEADER_BYTES - 8 : HEADER_BYTES]
        assert one[HEADER_BYTES:] != other[HEADER_BYTES:]

    def test_what_only_a_removed_key_opens_is_refused_at_once(self) -> None:
        """Of a session that was heard under it as well; others are not derived anew."""
        one, opener = ann(), sealer(KEY, OTHER_KEY)
        opener.open(one.close(b"heard"))
        opener.open(sealer(OTHER_KEY).close(b"heard"))
        opener.rekey(keyring((OTHER_KEY,), "flc"))

        assert refusal(opener, one.close(b"late")) == "key or cluster unknown"
        assert opener.open(sealer(OTHER_KEY, session=b"c" * 16).close(b"x")).payload == b"x"

    def test_open_to_sealed(self) -> None:
        """The open key is one of the ring until it is removed."""
        both = keyring((seal.OPEN, KEY), "flc")
        one = Seal(both, SESSION)

        assert sealer().open(one.close(b"open still")).payload == b"open still"
        assert one.open(sealer(KEY).close(b"sealed")).payload == b"sealed"
        assert both.is_open
        assert keyring((KEY, seal.OPEN), "flc").is_open
        assert [key.name for key in both.keys] == ["open", keyring((KEY,), "flc").keys[0].name]


class TestSessions:
    def derivations(self, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """Sessions whose keys were derived, as it happens."""
        derived: list[bytes] = []
        cipher = seal._cipher  # noqa: SLF001  # its cost is what a cache of it is for

        def counted(key: seal.Key, session: bytes, cluster: str) -> object:
            derived.append(session)
            return cipher(key, session, cluster)

        monkeypatch.setattr(seal, "_cipher", counted)
        return derived

    def test_a_session_is_derived_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Deriving costs more than opening."""
        one, opener = ann(), sealer(KEY)
        derived = self.derivations(monkeypatch)
        for _ in range(5):
            opener.open(one.close(b"x"))

        assert derived == [SESSION]

    def test_the_cache_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The session that came first is derived again when it is heard."""
        monkeypatch.setattr(seal, "OPENED_MAX", 2)
        a, b, c = (sealer(KEY, session=name * 16) for name in (b"a", b"b", b"c"))
        opener = sealer(KEY)
        derived = self.derivations(monkeypatch)
        for one in (a, b, a, c, a, b):
            opener.open(one.close(b"x"))

        assert derived == [b"a" * 16, b"b" * 16, b"c" * 16, b"a" * 16, b"b" * 16]


class TestKeyFiles:
    def keys(self, tmp_path: Path, text: str) -> tuple[bytes, ...]:
        """Read a key file with this in it."""
        path = tmp_path / "ring"
        path.write_text(text)
        return read_keys(path)

    def test_one_key_a_line_with_comments(self, tmp_path: Path) -> None:
        """Blank lines and what follows `#` are not read; order is kept."""
        lines = [
            "# ring",
            "",
            base64.b64encode(KEY).decode(),
            f"  {base64.b64encode(OTHER_KEY).decode()}  # new",
        ]

        assert self.keys(tmp_path, "\n".join(lines)) == (KEY, OTHER_KEY)

    def test_a_made_key_is_read(self, tmp_path: Path) -> None:
        """`flc keygen` writes what a key file holds, and no two alike."""
        one, other = make_key(), make_key()

        assert one != other
        assert [len(key) for key in self.keys(tmp_path, one + "\n")] == [KEY_BYTES]

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("", "no key"),
            ("# only\n\n", "no key"),
            ("not base64!", "line 1"),
            (base64.b64encode(KEY[1:]).decode(), "line 1"),
            (base64.b64encode(KEY + b"x").decode(), "line 1"),
            (base64.b64encode(KEY).decode() + "\nAAAA", "line 2"),
            (base64.b64encode(KEY).decode()[:-1], "line 1"),
            ("ключ", "ASCII"),
            (base64.b64encode(bytes(32)).decode(), "weak key"),
            (base64.b64encode(b"sevenby" * 4 + b"seve").decode(), "weak key"),
        ],
    )
    def test_what_is_no_key_is_named_with_a_hint(
        self, tmp_path: Path, text: str, named: str
    ) -> None:
        """The error says where, and not what: a key is a secret."""
        with pytest.raises(FlcError) as refused:
            self.keys(tmp_path, text)

        assert named in str(refused.value)
        assert "ring" in str(refused.value)
        assert "keygen" in refused.value.hint
        assert text == "" or text not in str(refused.value)

    def test_an_unreadable_file_is_named_with_a_hint(self, tmp_path: Path) -> None:
        """Not there, or a directory."""
        for path in (tmp_path / "absent", tmp_path):
            with pytest.raises(FlcError) as refused:
                read_keys(path)

            assert str(path) in str(refused.value)
            assert refused.value.hint
