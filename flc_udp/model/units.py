"""Units of time.

Whole numbers everywhere, and a type for each unit, so that none is taken for another.

A moment of the monotonic clock is in µs (`Micros`), a moment of the wall clock in ms since 1970
(`Millis`). A name that ends in `_us`, `_ms` or `_s` says the unit of a duration.

"""

from typing import NewType

Micros = NewType("Micros", int)
"""A moment of one process's monotonic clock, in µs. Moments of two processes are never compared."""

Millis = NewType("Millis", int)
"""A moment of the wall clock, in ms since 1970-01-01 UTC."""

MS_US = 1_000
"""A millisecond, in µs."""

SECOND_US = 1_000_000
"""A second, in µs."""
