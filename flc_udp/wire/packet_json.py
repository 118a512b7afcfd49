"""Packets as JSON, for people who speak to the wire by hand: every kind, in both directions.

A packet is an object. It has `kind`, the name that the documents use, and all fields by their
names, in the order in which `wire/packets.py` declares them.

    {"kind":"ping-req","nonce":7,"node":"9f2c61d0a47be813"}

Ids, hashes and all other bytes are hex. A dot is `"9f2c61d0a47be813:17"`, an address is
`"127.0.0.1:7352"`, and a state is `"alive"`. Rows are objects. A block is the object that
`wire/block_json.py` describes, or hex.

Rules. The JSON follows the forms of packets, so a new packet needs no line here. What was printed
reads as the same packet. What the decoder of the wire would refuse is refused here.
"""

from typing import Any

from flc_udp.model.errors import FlcError, Malformed
from flc_udp.wire.codec import FORMS
from flc_udp.wire.forms import Array, Form, Leaf, OrNil, Struct, T
from flc_udp.wire.message_json import Record
from flc_udp.wire.packets import TITLE_OF, Packet

KINDS: dict[str, Struct[Packet]] = {TITLE_OF[struct.made]: struct for struct in FORMS.values()}


def packet_record(packet: Packet) -> Record:
    """Give a packet as an object that JSON can hold."""
    title = TITLE_OF[type(packet)]
    return {"kind": title, **_object(KINDS[title], packet)}


def _object(struct: Struct[Any], made: tuple[Any, ...]) -> Record:
    fields = zip(struct.fields.items(), made, strict=True)
    return {name: _shown(form, value) for (name, form), value in fields}


def _shown(form: Form, value: Any) -> object:  # noqa: ANN401  # what `form.read` returns
    match form:
        case OrNil():
            return None if value is None else _shown(form.form, value)
        case Array():
            return [_shown(form.item, each) for each in value]
        case Struct():
            return _object(form, value)
        case Leaf():
            return form.to_json(value)


def read_packet(typed: object) -> Packet:
    """Read a packet that was typed; raises FlcError, which names the key and what it takes."""
    kind = typed.get("kind") if isinstance(typed, dict) else None
    if not isinstance(typed, dict) or not isinstance(kind, str) or kind not in KINDS:
        problem = f"kind {kind!r} is none" if kind else "a packet is an object with a kind"
        raise FlcError(problem, f"kinds are {', '.join(KINDS)}")
    fields = {key: value for key, value in typed.items() if key != "kind"}
    return _read_object(KINDS[kind], fields, kind)


def _read(form: Form, value: object, where: str) -> object:
    match form:
        case OrNil():
            return None if value is None else _read(form.form, value, where)
        case Array():
            if not isinstance(value, list):
                raise _refusal(form, value, where)
            items = tuple(_read(form.item, each, f"{where}[{at}]") for at, each in enumerate(value))
            return _whole(items, form, form.allowed, where)
        case Struct():
            return _read_object(form, value, where)
        case Leaf():
            return _read_leaf(form, value, where)


def _read_leaf(leaf: Leaf, value: object, where: str) -> object:
    try:
        found: object = leaf.read(leaf.from_json(value))
    except Malformed as error:
        raise _refusal(leaf, value, where, f": {error}") from error
    except FlcError as error:  # It says more, as which key of a block it is about.
        raise FlcError(f"{where}: {error}", error.hint) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _refusal(leaf, value, where) from error
    return found


def _read_object(struct: Struct[T], typed: object, where: str) -> T:
    fields = struct.fields
    has = f"{where} has {', '.join(fields) or 'no fields'}"
    if not isinstance(typed, dict):
        raise FlcError(f"{where} is {_short(typed)}, which is no object", has)
    strange = [key for key in typed if key not in fields]
    if strange:
        raise FlcError(f"{where} has no field {strange[0]!r}", has)
    given = {**struct.defaults, **typed}
    missing = [name for name in fields if name not in given]
    if missing:
        name = missing[0]
        raise FlcError(f"{where} lacks {name!r}", f"{name} takes {fields[name].allowed}")
    found = {name: _read(fields[name], value, f"{where}.{name}") for name, value in typed.items()}
    described = "; ".join(f"{name}: {form.allowed}" for name, form in fields.items())
    return _whole(struct.made(**found), struct, described, where)


def _whole(made: T, form: Array | Struct[T], allowed: str, where: str) -> T:
    """Refuse a whole that is not allowed although each of its parts is."""
    reason = form.fault(made) if form.fault else None
    if reason is not None:
        raise FlcError(f"{where}: {reason}", f"no node accepts it; {where} takes {allowed}")
    return made


def _refusal(form: Leaf | Array, value: object, where: str, why: str = "") -> FlcError:
    takes = f"{where.rpartition('.')[2]} takes {form.allowed}"
    return FlcError(f"{where} is {_short(value)}{why}", takes)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"  # noqa: PLR2004  # half a line
