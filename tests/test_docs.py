"""The pages name what there is: events, reasons, metrics, settings, commands, files."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flc_udp.cli.main import COMMANDS
from flc_udp.config import SETTING_NAMES
from flc_udp.daemon.ground import ERRORS, WARNINGS
from flc_udp.daemon.hooks import hooks
from flc_udp.daemon.watch.reasons import ADVICE
from tests.daemon.watch.test_metrics import COUNTERS, GAUGES, HISTOGRAMS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flc_udp"
DOCS = PACKAGE / "docs"
OPERATIONS = (DOCS / "operations.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}

Function = ast.FunctionDef | ast.AsyncFunctionDef

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


class Event(NamedTuple):
    """A line of the log: its level, the fields it always has, and those it may have."""

    level: str
    always: frozenset[str]
    sometimes: frozenset[str] = frozenset()


def functions() -> Iterator[tuple[Path, Function]]:
    """Every function of the package, with its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"), str(path))
        for node in ast.walk(tree):
            if isinstance(node, Function):
                yield path, node


def events() -> dict[str, Event]:
    """All that is ever logged, read from the source."""
    found: dict[str, Event] = {}
    for path, function in functions():
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if is_logged(call):
                if isinstance(call.args[0], ast.Constant):
                    assert isinstance(call.func, ast.Attribute)
                    fields = frozenset(word.arg or "**" for word in call.keywords)
                    found[str(call.args[0].value)] = Event(call.func.attr, fields)
                else:  # The one door for what the core tells.
                    assert (path.name, function.name) == ("ground.py", "tell")
            elif isinstance(call.func, ast.Name) and call.func.id == "Notice":
                always, sometimes = fields_of(call, function)
                for name in names_of(call.args[0], path):
                    found[name] = Event(level_of(name), always, sometimes)
    return found


def is_logged(call: ast.Call) -> bool:
    """Whether a call writes a line of the log."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in LEVELS:
        return False
    receiver = ast.unparse(call.func.value)
    return "logger" in receiver or "structlog" in receiver


def level_of(name: str) -> str:
    """What `LoopGround.tell` makes of a notice."""
    return "error" if name in ERRORS else "warning" if name in WARNINGS else "info"


def names_of(argument: ast.expr, path: Path) -> list[str]:
    """The name of a notice, or all of the table that it is looked up in."""
    if isinstance(argument, ast.Constant):
        return [str(argument.value)]
    assert isinstance(argument, ast.Subscript), ast.unparse(argument)
    assert isinstance(argument.value, ast.Name), ast.unparse(argument)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return list(getattr(importlib.import_module(module), argument.value.id).values())


def fields_of(call: ast.Call, function: Function) -> tuple[frozenset[str], frozenset[str]]:
    """The fields of a notice: of a dictionary as it stands, or as the function fills it."""
    if len(call.args) == 1:
        return frozenset(), frozenset()
    fields = call.args[1]
    if isinstance(fields, ast.Dict):
        return keys_of(fields), frozenset()
    assert isinstance(fields, ast.Name), ast.unparse(call)
    always, sometimes = frozenset[str](), set[str]()
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        match node.targets[0]:
            case ast.Name(id=name) if name == fields.id and isinstance(node.value, ast.Dict):
                always = keys_of(node.value)
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=key)):
                sometimes |= {str(key)} if name == fields.id else set()
    assert always, f"cannot tell the fields of {ast.unparse(call)}"
    return always, frozenset(sometimes)


def keys_of(fields: ast.Dict) -> frozenset[str]:
    """The keys of a dictionary as it is written."""
    assert all(isinstance(key, ast.Constant) for key in fields.keys), ast.unparse(fields)
    return frozenset(str(key.value) for key in fields.keys if isinstance(key, ast.Constant))


def listed_events() -> dict[str, tuple[str, frozenset[str]]]:
    """{event: (level, fields)} as the page lists them."""
    table = OPERATIONS.partition("<!-- events:")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]
    return {
        name.strip("`"): (level, frozenset(re.findall(r"`(\w+)`", fields)))
        for name, level, fields, _ in rows
    }


def test_every_event_is_listed_with_its_level_and_fields() -> None:
    """Whoever reads the log finds every line explained, and no line that there is not."""
    found, listed = events(), listed_events()

    assert set(found) == set(listed)
    for name, event in found.items():
        level, fields = listed[name]
        assert level == event.level, name
        assert event.always <= fields <= event.always | event.sometimes, name


def fixed(said: ast.expr) -> str:
    """The longest piece of a text that is the same each time."""
    return max(pieces(said), key=len, default="").strip()


def whole(said: ast.expr) -> str:
    """All of them, what changes left out."""
    return "".join(pieces(said))


def pieces(said: ast.expr) -> list[str]:
    """Of a text: those that are the same each time."""
    found = [node.value for node in ast.walk(said) if isinstance(node, ast.Constant)]
    return [piece for piece in found if isinstance(piece, str)]


def reasons(of: Callable[[ast.expr], str] = fixed) -> list[str]:
    """What is fixed in each reason that `flc status` and `/readyz` may give."""
    tree = ast.parse((PACKAGE / "daemon" / "watch" / "status.py").read_text("utf-8"))
    found = []
    for function in ast.walk(tree):
        if isinstance(function, Function) and function.name in (
            "reasons",
            "_disk_reasons",
            "unready",
        ):
            for node in ast.walk(function):
                match node:
                    case ast.Call(func=ast.Attribute(attr="append"), args=[said]):
                        found.append(of(said))
                    case ast.Return(value=ast.List(elts=[said])):
                        found.append(of(said))
    return [text for text in found if text]


def test_every_reason_is_explained() -> None:
    """At three in the morning `flc status` says a line, and the page what to do about it."""
    told = reasons()
    page = OPERATIONS.partition("## What `flc status` says")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    # A row may stop at a colon or a comma: what follows are figures.
    openings = [piece for row in rows for piece in re.findall(r"[^`…]{7,}", row)]

    assert len(told) == len(rows)
    for reason in told:
        assert any(piece.strip() in reason or reason in piece for piece in openings), reason


def test_every_reason_has_its_advice() -> None:
    """The line below the reason says what to do, and no advice is for a reason that is gone."""
    told = reasons(whole)

    assert [reason for reason in told if not any(words in reason for words in ADVICE)] == []
    assert [words for words in ADVICE if not any(words in reason for reason in told)] == []


def metric_names() -> set[str]:
    """All names that a query may have; a test of the daemon holds that list."""
    histograms = [f"{name}{end}" for name in HISTOGRAMS.split() for end in ("_bucket", "_count")]
    counters = [f"{name}_total" for name in COUNTERS.split()]
    return {f"flc_{n}" for n in (*counters, *GAUGES.split(), *HISTOGRAMS.split(), *histograms)}


@each_page
def test_every_metric_that_is_named_exists(page: Path) -> None:
    """An alert on a name that is not there never rings."""
    named = set(re.findall(r"\bflc_(?!udp\b)[a-z_]+\b", page.read_text("utf-8")))

    assert named <= metric_names()


def test_every_reason_of_a_drop_that_is_named_exists() -> None:
    """The same for labels."""
    named = re.findall(r'reason=~?"([^"]+)"', OPERATIONS)
    source = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))

    assert named
    assert [r for text in named for r in text.split("|") if f'"{r}"' not in source] == []


@each_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    """As FLC_…; FLC_PYTHON is that of scripts/env, and hooks are told of what they run for."""
    named = {name.lower() for name in re.findall(r"\bFLC_([A-Z_]+[A-Z])", page.read_text("utf-8"))}
    told = {name.lower() for name in re.findall(r"\bFLC_([A-Z_]+)", hooks.__doc__ or "")}

    assert named - {"python", *told} <= set(SETTING_NAMES)


@each_page
def test_every_command_that_is_named_exists(page: Path) -> None:
    """In a code span or a line of a shell."""
    named = re.findall(r"(?:`|^\s*)flc ([a-z]+)", page.read_text("utf-8"), re.MULTILINE)

    assert set(named) <= set(COMMANDS)


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    """Paths in the checkout, and links within a page."""
    text = page.read_text("utf-8")
    named = set(re.findall(r"`((?:flc_udp|tests|scripts|bench)/[\w./-]+)`", text))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}

    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors
    assert all(
        (page.parent / link).exists() for link in re.findall(r"\]\((?!#|http)([^)#]+)", text)
    )
