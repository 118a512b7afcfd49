"""A broken promise."""


class Violation(Exception):  # noqa: N818  # says what happened, as Malformed does
    """A promise was broken."""
