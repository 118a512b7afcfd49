"""The layout is a promise too: what may import what, and how large anything may grow."""

import ast
import io
import re
import tokenize
import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "flc_udp"
MODULES = sorted(PACKAGE.rglob("*.py"))

ROOMS: dict[str, set[str]] = {
    "config": set(),
    "model": {"config"},
    "wire": {"config", "model"},
    "store": {"config", "model"},
    "core": {"config", "model", "wire"},
    "waist": {"config", "model", "wire", "core"},
    "client": {"config", "model"},
}
ROOMS["daemon"] = {*ROOMS["waist"], "waist", "store"}
ROOMS["sim"] = {*ROOMS["waist"], "waist", "store"}
ROOMS["cli"] = {*ROOMS["daemon"], "client", "daemon", "sim"}
LAZY_IN_CLI = {"daemon", "sim"}

ROOMS_OF_CORE: dict[str, set[str]] = {
    "liveness": set(),
    "push": {"liveness"},
    "repair": {"liveness", "push"},
}
"""The rooms inside `core/`, and which of the others each may use."""

TOP_OF_CORE = {"replica", "log_side", "facts"}
"""The modules of `core/` that see its rooms. No room sees them."""

DOORS = {"replica", "_replica"}
"""What a Replica is called by whoever has one."""

CHAIN_MOST = 3
"""A chain of attributes has at most this many: `a.b.c.d` is read at once, `a.b.c.d.e` is not."""

NOT_IN_CORE = {
    "asyncio",
    "logging",
    "multiprocessing",
    "os",
    "secrets",
    "select",
    "selectors",
    "signal",
    "socket",
    "sqlite3",
    "structlog",
    "subprocess",
    "threading",
    "time",
    "uvloop",
}
PURE = ("config.py", "model", "core", "waist")
"""No clock, socket, disk or chance of their own. The Node's ground has all these."""

TOP_LEVEL = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "bench",
    "flc_udp",
    "pyproject.toml",
    "scripts",
    "tests",
}
FUNCTION_LINES = 60
MODULE_LINES = 300

each_module = pytest.mark.parametrize(
    "path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES]
)


def room_of(path: Path) -> str:
    """The room a file is in."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    """A file as Python reads it."""
    return ast.parse(path.read_text(), str(path))


def imports_of(nodes: Iterator[ast.AST] | list[ast.stmt]) -> set[str]:
    """Full names of what is imported; relative imports are not used here."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "import_module":
            names |= {part.value for part in node.args if isinstance(part, ast.Constant)}
    return names


def rooms_among(names: set[str]) -> set[str]:
    """The rooms of ours among imported names."""
    parts = [name.split(".") for name in names]
    return {second for first, second, *_ in (p for p in parts if len(p) > 1) if first == "flc_udp"}


@each_module
def test_rooms_import_only_leftwards(path: Path) -> None:
    """Config → model → wire → core → waist → daemon | sim → client, cli; grounds join the store."""
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    found = rooms_among(imports_of(ast.walk(tree_of(path)))) - {room, "__version__"}

    assert set() == found - ROOMS[room]


CORE = [path for path in MODULES if room_of(path) == "core"]


@pytest.mark.parametrize("path", CORE, ids=[str(path.relative_to(PACKAGE)) for path in CORE])
def test_inside_the_core_rooms_are_used_downwards_only(path: Path) -> None:
    """Repair may use push, push may use liveness; but for three modules the rest uses none."""
    place = path.relative_to(PACKAGE / "core").parts
    allowed, all_rooms = ROOMS_OF_CORE.get(place[0], set()), set(ROOMS_OF_CORE)
    if place[0].removesuffix(".py") in TOP_OF_CORE:
        return
    parts = [name.split(".") for name in imports_of(ast.walk(tree_of(path)))]
    used = {found[2] for found in parts if found[:2] == ["flc_udp", "core"]}

    assert set() == used & TOP_OF_CORE
    assert set() == (used & all_rooms) - {place[0]} - allowed


def test_imports_have_no_circle() -> None:
    """Whoever reads one module and what it imports comes to an end; imports for types count too."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    by_name = {
        name.removesuffix(".__init__"): path for name, path in zip(names, MODULES, strict=True)
    }
    graph: dict[str, set[str]] = {}
    for name, path in by_name.items():
        imported = imports_of(ast.walk(tree_of(path)))
        found = {what if what in by_name else what.rpartition(".")[0] for what in imported}
        graph[name] = found & by_name.keys()

    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) == "cli"], ids=lambda p: p.name)
def test_the_cli_meets_daemon_and_sim_only_when_it_runs_them(path: Path) -> None:
    """`flc --version` is quick: what is heavy is imported by the command that needs it."""
    at_import = rooms_among(imports_of(tree_of(path).body))

    assert set() == at_import & LAZY_IN_CLI


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if p.relative_to(PACKAGE).parts[0] in PURE],
    ids=[str(p.relative_to(PACKAGE)) for p in MODULES if p.relative_to(PACKAGE).parts[0] in PURE],
)
def test_the_core_reads_no_clock_and_opens_nothing(path: Path) -> None:
    """No clock, socket, disk, thread, log or chance but what is handed in."""
    names = imports_of(ast.walk(tree_of(path)))

    assert set() == {name.partition(".")[0] for name in names} & NOT_IN_CORE
    assert {"random.Random"} >= {name for name in names if name.partition(".")[0] == "random"}


@each_module
def test_nothing_is_drawn_from_the_global_random(path: Path) -> None:
    """No module-level function of `random`: chance comes from an instance that is handed in."""
    tree = tree_of(path)
    names = imports_of(ast.walk(tree)) | {
        f"random.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
    }
    drawn = {name for name in names if name.startswith("random.")}

    assert drawn <= {"random.Random", "random.SystemRandom"} or "random" not in names


def test_the_top_level_is_as_planned() -> None:
    """These names, and dotfiles; what a tool or a node left behind is ignored by git."""
    ignored = [
        line.strip().strip("/")
        for line in (ROOT / ".gitignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    found = {
        path.name
        for path in ROOT.iterdir()
        if not path.name.startswith(".") and not any(path.match(pattern) for pattern in ignored)
    }

    assert set() == found - TOP_LEVEL


def test_tests_mirror_the_rooms() -> None:
    """Every folder of tests is a room's."""
    folders = {p.name for p in (ROOT / "tests").iterdir() if p.is_dir() and p.name[0] not in "_."}

    assert folders <= set(ROOMS)


def chains_of(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """The line and the names of each chain of attributes, as `a.b.c` is one of a, b and c."""
    inner: set[ast.AST] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or node in inner:
            continue
        names: list[str] = []
        link: ast.AST = node
        while isinstance(link, ast.Attribute):
            inner.add(link)
            names.append(link.attr)
            link = link.value
        yield node.lineno, [link.id if isinstance(link, ast.Name) else "", *reversed(names)]


@each_module
def test_no_chain_of_attributes_is_long(path: Path) -> None:
    """Nobody reaches through three others: whoever is asked for something answers itself."""
    chains = [(line, ".".join(names)) for line, names in chains_of(tree_of(path))]

    assert [(line, chain) for line, chain in chains if chain.count(".") > CHAIN_MOST] == []


@each_module
def test_outside_the_core_one_attribute_follows_the_replica(path: Path) -> None:
    """A Replica has one door, and nobody looks behind it."""
    if room_of(path) == "core":
        return
    behind = [
        (line, ".".join(names))
        for line, names in chains_of(tree_of(path))
        if any(name in DOORS for name in names[:-2])
    ]

    assert behind == []


def test_each_class_has_a_name_of_its_own() -> None:
    """One name, one thing: nobody has to ask which of two is meant."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(PACKAGE)))

    assert {name: places for name, places in found.items() if len(places) > 1} == {}


@pytest.mark.filterwarnings("default")
def test_what_is_long_is_looked_at_again() -> None:
    """A function over 60 lines or a module over 300 is named in a warning, and nothing more."""
    for path in MODULES:
        text = path.read_text()
        if (lines := len(text.splitlines())) > MODULE_LINES:
            warnings.warn(f"{path.relative_to(ROOT)} has {lines} lines", stacklevel=1)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    where = f"{path.relative_to(ROOT)}: {node.name}"
                    warnings.warn(f"{where} has {lines} lines", stacklevel=1)


@each_module
def test_every_module_opens_with_its_promise(path: Path) -> None:
    """A docstring, and a sentence at that."""
    docstring = ast.get_docstring(tree_of(path))

    assert docstring
    assert re.search(r"[.:!?]$", docstring.splitlines()[-1])


@each_module
def test_every_exception_to_a_rule_has_its_reason(path: Path) -> None:
    """`noqa` and `type: ignore` name the rule and say why, beside it or in the line above."""
    text = path.read_text()
    lines = text.splitlines()
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    exceptions = [
        (t.start[0], t.string)
        for t in tokens
        if t.type == tokenize.COMMENT and re.search(r"noqa|type:\s*ignore", t.string)
    ]
    named = re.compile(r"# (noqa: [A-Z0-9, ]+?|type: ignore\[[a-z, -]+\])(  # \S.*)?")
    unnamed = [comment for _, comment in exceptions if not named.fullmatch(comment)]
    bare = [
        comment
        for number, comment in exceptions
        if comment.count("#") == 1 and not lines[number - 2].lstrip().startswith("# ")
    ]

    assert (unnamed, bare) == ([], [])
