"""Units of time. Times are whole numbers, and each unit of a moment has a type.

A moment of the monotonic clock is in µs (`Micros`), and a moment of the wall clock is in ms since
1970 (`Millis`). A duration has a name that ends with its unit: `_us`, `_ms` or `_s`.
"""

from typing import NewType

Micros = NewType("Micros", int)
"""A moment of one process's monotonic clock, in µs. Moments of two processes are never compared."""

NEVER = Micros(1 << 62)
"""A moment that does not come: the deadline of what waits for nothing."""

Millis = NewType("Millis", int)
"""A moment of the wall clock, in ms since 1970-01-01 UTC."""

EPOCH = Millis(0)
"""The beginning of 1970, for a wall clock that nobody reads."""

MS_US = 1_000
"""A millisecond, in µs."""

SECOND_US = 1_000_000
"""A second, in µs."""
