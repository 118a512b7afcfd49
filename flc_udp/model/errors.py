"""Whose fault it is, as a type.

Junk from the network is `Malformed`: caught at one door, counted by reason, dropped. A caller's
mistake is `FlcError`: it names the thing and carries a hint. A disk that fails is `StoreFailed`. A
broken invariant is an `assert`.
"""

from flc_udp.model.drops import Drop


class Malformed(Exception):  # noqa: N818  # the design's word for it
    """Bytes that are no message or packet of ours. Nothing was changed by them.

    `at` is the byte that the reason is about, if the reader knows it.
    """

    def __init__(self, reason: Drop, at: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class FlcError(Exception):
    """What a person asked for cannot be done; nothing was changed unless the text says so.

    `str(error)` names the thing and what is allowed, `hint` is the way out.
    """

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


class StoreFailed(Exception):  # noqa: N818  # says what happened, as Malformed does
    """The database could not do it: a full disk, an I/O error, a lost file.

    Nothing of the operation was kept. `operation` says what was tried; the text is SQLite's.
    """

    def __init__(self, operation: str, problem: str) -> None:
        super().__init__(f"{operation}: {problem}")
        self.operation = operation
