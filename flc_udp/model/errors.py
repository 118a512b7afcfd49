"""Errors and drops: the type of an error says whose fault it is.

Junk from the network is `Malformed`. It is caught at one place, counted by its reason and dropped.
Every drop is counted under one of the reasons in `Drop`. Their texts are the values of the label
`reason` of the metric `flc_drops`, and what `flc status` prints, so they never change.
A mistake of the caller is an `FlcError`, which names the thing and gives a hint. If the disk fails,
that is `StoreFailed`. If an invariant of our own is broken, an `assert` fails.
"""

from enum import StrEnum


class Drop(StrEnum):
    """Why something that came in was not taken, or something that was to go out was not sent.

    Most reasons say what is wrong with bytes that came from the network.
    """

    # The envelope of a datagram.
    INBOX_FULL = "inbox full"
    DATAGRAM_FAILED = "datagram failed"
    DATAGRAM_SIZE = "datagram size"
    WIRE_VERSION_UNKNOWN = "wire version unknown"
    KEY_UNKNOWN = "key or cluster unknown"
    SEAL_BROKEN = "seal broken"
    SESSIONS_TOO_MANY = "too many unknown sessions"
    UNPROVED = "session or address not proved"
    REPLAYED = "replayed or too old"
    HELLO_NOT_GOOD = "hello not good"
    COOKIE_NOT_DRAWN = "cookie not drawn"
    SENDER_NOT_OF_SESSION = "sender is not that of the session"
    RECEIVER_OTHER = "receiver is another node"

    # Its payload, and the fields of packets.
    PAYLOAD_NOT_MSGPACK = "payload is not msgpack"
    KIND_UNKNOWN = "packet kind unknown"
    PACKET_TOO_SHORT = "packet is too short"
    ARRAY_EXPECTED = "array expected"
    BYTES_EXPECTED = "bytes expected"
    NUMBER_OUT_OF_RANGE = "number out of range"
    FLAG_NOT_BOOLEAN = "flag is not true or false"
    ID_NOT_8_BYTES = "id is not 8 bytes"
    HASH_NOT_8_BYTES = "hash is not 8 bytes"
    MEMBER_ROW_HAS_MAP = "member row has a map in it"
    MEMBER_STATE_UNKNOWN = "member state unknown"
    MEMBER_ADDRESS_NOT_CANONICAL = "member address is not numeric and canonical"
    MEMBER_NAME_NOT_ALLOWED = "member name not allowed"
    MEMBER_ID_IS_VISITOR = "member id is a visitor's"
    MEMBER_TAG_NOT_ALLOWED = "member tag not allowed"
    MEMBER_TAGS_TOO_MANY = "member has too many tags"
    MEMBER_TAGS_OUT_OF_ORDER = "member tags out of order"
    MEMBER_TAGS_TOO_LONG = "member tags too long"
    BASE_ORIGIN_NOT_A_NODE = "base origin is not a node"
    BASE_ROOM_NOT_OF_LOG = "base room is none of its log's"
    WANT_NOT_A_SPAN = "want is not a span"
    PIECE_DOES_NOT_FIT = "piece does not fit its block"
    RANGE_WITHOUT_64_HASHES = "range does not have 64 hashes"
    DIGEST_RANGE_EMPTY = "digest range is empty"
    DIGEST_ROWS_OUT_OF_ORDER = "digest rows out of order"

    # An encoded block.
    BLOCK_TOO_LARGE = "block too large"
    BLOCK_SHARED_TOO_LARGE = "block of several messages is too large"
    BLOCK_BODIES_OUT_OF_RANGE = "block does not have 1 to 1,024 bodies"
    BLOCK_NOT_BYTES = "block is not bytes"
    BLOCK_NOT_MSGPACK = "block is not msgpack"
    BLOCK_NOT_ITS_FIELDS = "block is not an array of its fields"
    BLOCK_SEQ_OUT_OF_RANGE = "block seq out of range"
    BLOCK_CLOCK_OUT_OF_RANGE = "block clock out of range"
    BLOCK_STAMP_OUT_OF_RANGE = "block stamp out of range"
    BLOCK_LOG_NOT_AN_ID = "block log is not an id"
    BLOCK_WITHOUT_DOT = "block does not begin with its dot"
    BLOCK_PARENT_NOT_A_HASH = "block parent is not a hash"
    BLOCK_LABEL_NOT_ALLOWED = "block room or author is not allowed"
    BLOCK_BODY_TOO_LARGE = "block body too large"
    BLOCK_BODY_OF_OTHER_TYPE = "block body is neither text nor bytes"
    BLOCK_CAUSES_NOT_DOTS = "block causes are not dots"
    BLOCK_CAUSES_OUT_OF_ORDER = "block causes are not one for each other log, in order"
    BLOCK_CHAIN_WITHOUT_BEGINNING = "block chain does not begin at seq 1"
    BLOCK_ORIGIN_MISPLACED = "block origin outside the log's first block"
    BLOCK_ORIGIN_NOT_A_NODE = "block origin is not a node"

    # What was decided about packets and blocks that are well formed.
    OWN_DATAGRAM = "own datagram"
    DUPLICATE_BLOCK = "duplicate block"
    DUPLICATE_PIECE = "duplicate piece"
    FORKED_LOG = "forked log"
    BROKEN_CHAIN = "broken chain"
    REPLAY_NOT_ASKED_FOR = "replay not asked for"
    WAITING_FOR_THE_DISK = "waiting for the disk"
    UNDONE_BY_FAILED_COMMIT = "undone by a failed commit"
    HOLDBACK_OVERFLOW = "hold-back overflow"
    PIECES_OVERFLOW = "pieces overflow"
    INCARNATION_AHEAD = "incarnation far ahead of the clock"
    MEMBER_TABLE_FULL = "member table full"
    WANT_GIVEN_UP = "want given up"
    FLOOR_BEYOND_CLOCKS = "floor beyond every clock"
    BASE_OF_NO_USE = "base without what was asked for"
    REPLY_BUDGET = "too much drawn by one address"
    PULL_TOO_MANY = "pull too many"
    LOG_UNREADABLE = "log could not be read"
    NOT_SENT = "not sent"


class Malformed(Exception):  # noqa: N818  # the design's word for it
    """Bytes are no datagram, packet or block of ours; nothing was changed.

    `at` is the byte that the reason is about, if it is known.
    """

    def __init__(self, reason: Drop, at: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class FlcError(Exception):
    """What a person asked for cannot be done. Nothing was changed, unless the text says so.

    `str(error)` names the thing and what is allowed, and `hint` says what to do.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class StoreFailed(Exception):  # noqa: N818  # says what happened, as Malformed does
    """The database failed, because the disk is full, for example, or cannot be read.

    Nothing of the operation was kept. The text names what was tried, and what SQLite says.
    """

    def __init__(self, operation: str, problem: str, *, is_busy: bool = False) -> None:
        super().__init__(f"{operation}: {problem}")
        self.problem = problem
        self.is_busy = is_busy
        """Whether another process was writing, so that nothing was even begun."""
