"""Forms: what is allowed in each part of a packet, said once for all who read or write packets.

A *leaf* is one value, an *array* has any number of items of one form, and a *struct* is an array
whose places have names: a packet, or a row in a packet. Three readers walk the same forms: the
decoder (`codec`), the JSON of `flc udp` (`packet_json`) and the search for a fault (`dissect`).

Rules. `read` takes any value that msgpack can give and returns it checked. It raises Malformed for
a value that is not allowed, and never anything else. A struct ignores what follows its last field,
because a later version may add fields. Every datagram that comes is read, so a reader is a closure
over what it needs, and it does not note which part it refuses.
"""

from collections.abc import Callable
from functools import lru_cache
from operator import call
from types import GenericAlias
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_type_hints

from flc_udp.model.errors import Drop, Malformed

ROWS_CACHED = 8_192
"""A cached struct remembers this many arrays, those that were looked up last."""

T = TypeVar("T", bound=tuple[Any, ...])

Values = tuple[Any, ...]
"""An array as msgpack gives it."""

Reader = Callable[[Any], Any]

Fault = Callable[[Any], Drop | None]
"""Says why a whole is refused although each of its parts is allowed."""

_new: Callable[..., Any] = tuple.__new__
"""A named tuple's own constructor takes two to four times as long."""


def _as_it_is(value: object) -> object:
    return value


class Leaf(NamedTuple):
    """A value that people type as one."""

    allowed: str
    """Says in words what people may type."""
    read: Reader
    from_json: Callable[[Any], object] = _as_it_is
    """Turns what people type into what `read` takes. It may raise anything."""
    to_json: Callable[[Any], object] = _as_it_is


class OrNil:
    """A value of another form, or nil."""

    def __init__(self, form: "Form") -> None:
        read = form.read
        self.form = form
        self.allowed: str = f"{form.allowed}, or null"
        self.read: Reader = lambda value: None if value is None else read(value)


class Array:
    """Any number of items of one form. `fault` looks at all of them together."""

    def __init__(self, item: "Form", fault: Fault | None = None) -> None:
        read_item = item.read

        def read(value: object) -> Values:
            if type(value) is not tuple:
                raise Malformed(Drop.ARRAY_EXPECTED)
            items = tuple(map(read_item, value))
            if fault is not None:
                _refuse(fault(items))
            return items

        self.item = item
        self.allowed: str = f"an array, each item {item.allowed}"
        self.fault = fault
        self.read: Reader = read


class Struct(Generic[T]):
    """A named tuple as an array of its fields, in their order.

    If the named tuple has a method `fault`, that method looks at all fields together. An array that
    is too short is refused for the reason `if_short`.
    """

    def __init__(self, made: type[T], *forms: "Form", if_short: Drop = Drop.ARRAY_EXPECTED) -> None:
        named: Any = made
        reads, least = tuple(form.read for form in forms), len(forms)
        fault: Fault | None = getattr(made, "fault", None)

        def read(value: object) -> T:
            if type(value) is not tuple or len(value) < least:
                raise Malformed(if_short)
            struct: T = _new(made, map(call, reads, value))
            if fault is not None:
                _refuse(fault(struct))
            return struct

        self.made = made
        self.fields: dict[str, Form] = dict(zip(named._fields, forms, strict=True))
        self.defaults: dict[str, object] = named._field_defaults
        self.allowed = f"an object of {', '.join(self.fields)}"
        self.fault = fault
        self.read: Callable[[Any], T] = read


class CachedStruct(Struct[T]):
    """A struct that comes again and again with the same contents: equal arrays are checked once.

    An array that cannot be looked up, because a map is in it, is refused for the reason `has_map`.
    """

    def __init__(self, made: type[T], has_map: Drop) -> None:
        super().__init__(made, *struct_of(made).fields.values())
        read_checked, count = self.read, len(self.fields)

        # `typed`: true must not be found where 1 was remembered.
        @lru_cache(maxsize=ROWS_CACHED, typed=True)
        def look_up(*fields: object) -> T:
            return read_checked(fields)

        def read(value: object) -> T:
            if type(value) is not tuple or len(value) < count:
                raise Malformed(Drop.ARRAY_EXPECTED)
            try:
                return look_up(*value[:count])
            except TypeError:  # Of `lru_cache`, which cannot hash a map.
                raise Malformed(has_map) from None

        self.read = read


Form = Leaf | OrNil | Array | Struct[Any]


def form_of(hint: object) -> Form:
    """Give the form that an annotation names: an array, a named tuple's, or a form of its own."""
    if isinstance(hint, GenericAlias):
        return Array(form_of(hint.__args__[0]))
    if isinstance(hint, type):
        return struct_of(hint)
    form: Form = get_args(hint)[1]
    return form


def struct_of(made: type[T], if_short: Drop = Drop.ARRAY_EXPECTED) -> Struct[T]:
    """Give the struct that the annotations of a named tuple describe."""
    hints = get_type_hints(made, include_extras=True).values()
    return Struct(made, *map(form_of, hints), if_short=if_short)


def _refuse(reason: Drop | None) -> None:
    if reason is not None:
        raise Malformed(reason)
