"""Notices: facts that people should hear of, as typed values that carry their own level.

A notice becomes one line of the node's log. The line's event is the class's name in snake case
(`MemberDied` is `member_died`), and its fields are those of the class. The page for operators lists
all of them, and a test compares that list with the classes.
"""

import re
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import PurePath
from typing import ClassVar, dataclass_transform

from flc_udp.model.address import Address
from flc_udp.model.dots import Dot


class Level(Enum):
    """How much a notice matters. The values are the names of structlog's methods."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Notice:
    """A fact for people. Every class of notices is a frozen dataclass.

    It names its level where it is declared, or has that of its base. A field that has a default is
    left out of the log when it has that value.
    """

    level: ClassVar[Level] = Level.INFO

    def __init_subclass__(cls, level: Level | None = None) -> None:
        """Make a dataclass of each class of notices."""
        dataclass(frozen=True)(cls)
        cls.level = level or cls.level

    @classmethod
    def event(cls) -> str:
        """The name that the log has for it: a short fact in the past tense."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()

    def record(self) -> dict[str, object]:
        """The fields as the log prints them: ids in hex, addresses and dots as text."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        return {f.name: _printed(value) for f, value in values if value != f.default}


def _printed(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case Dot() | Address() | PurePath():
            return str(value)
        case _:
            return value
