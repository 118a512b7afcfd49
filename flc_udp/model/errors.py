"""Errors: the type of an error says whose fault it is.

Junk from the network is `Malformed`. It is caught at one place, counted by its reason and dropped.
A mistake of the caller is an `FlcError`, which names the thing and gives a hint. If the disk fails,
that is `StoreFailed`. If an invariant of our own is broken, an `assert` fails.
"""

from flc_udp.model.drops import Drop


class Malformed(Exception):  # noqa: N818  # the design's word for it
    """Bytes are no datagram, packet or message of ours; nothing was changed.

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

    def __init__(self, operation: str, problem: str) -> None:
        super().__init__(f"{operation}: {problem}")
