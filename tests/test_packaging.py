"""The wheel and the sdist: what is in them, and that the wheel runs where nothing else is.

Built by the backend that pyproject.toml names, in this environment and without a network; where it
is not installed these tests are skipped (`pip install hatchling build`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from flc_udp import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

BACKEND = str(PROJECT["build-system"]["build-backend"]).partition(".")[0]

needs_backend = pytest.mark.skipif(
    find_spec(BACKEND) is None or find_spec("pip") is None, reason=f"needs pip and {BACKEND}"
)
needs_build = pytest.mark.skipif(
    find_spec(BACKEND) is None or find_spec("build") is None, reason=f"needs build and {BACKEND}"
)


def run(*words: str, cwd: Path, **environ: str) -> str:
    """A module of this Python, which must succeed; what it prints."""
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return ended.stdout


def pip(*words: str, cwd: Path) -> None:
    """Pip without an index: whatever it would have to fetch is an error."""
    run("pip", "--isolated", "--disable-pip-version-check", *words, "--no-index", cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    home = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", ".", str(ROOT), cwd=home)
    (found,) = home.glob("*.whl")
    return found


@needs_backend
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """All that git keeps of the package, py.typed and the pages too; no tests, no scripts."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    package = {name for name in names if name.startswith("flc_udp/")}
    rest = {name.partition("/")[0] for name in names} - {"flc_udp"}
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "flc_udp").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }

    assert package == here
    assert "flc_udp/py.typed" in package
    assert rest == {f"flc_udp-{__version__}.dist-info"}
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert any(name.endswith("/entry_points.txt") for name in names)


@needs_backend
def test_the_wheel_runs_where_nothing_else_is(wheel: Path, tmp_path: Path) -> None:
    """Installed alone: `--version` needs no dependency, nor the checkout."""
    target = tmp_path / "target"
    pip("install", "--no-deps", "--target", str(target), str(wheel), cwd=tmp_path)

    printed = run("flc_udp", "--version", cwd=tmp_path, PYTHONPATH=str(target))

    where = "import flc_udp; print(flc_udp.__file__)"
    loaded = subprocess.run(
        [sys.executable, "-c", where],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f"flc {__version__}\n"
    assert Path(loaded.strip()).is_relative_to(target)
    assert (target / "bin" / "flc").exists()


@needs_build
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Out of the source archive comes what comes out of the checkout."""
    run("build", "--sdist", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", ".", str(source), cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")

    assert source.name == f"flc_udp-{__version__}"
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        contents = [{name: a.read(name) for name in a.namelist()} for a in (one, other)]
    assert contents[0] == contents[1]


def test_the_version_is_one() -> None:
    """What the package says of itself and what pip is told."""
    assert PROJECT["project"]["version"] == __version__
