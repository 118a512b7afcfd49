"""What a checkout, the image and the workflows are made of is named exactly, and no less of it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKED = ROOT / "scripts" / "locked"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

DECLARED = {
    "run": PROJECT["project"]["dependencies"],
    "build": PROJECT["build-system"]["requires"],
    **PROJECT["project"]["optional-dependencies"],
}

each_set = pytest.mark.parametrize("name", DECLARED)


def locked(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """The packages of one file: each with its requirement and its hashes."""
    text = (LOCKED / f"{name}.txt").read_text("utf-8").replace("\\\n", " ")
    lines = [line.split("--hash=") for line in text.splitlines() if not line.startswith("#")]
    packages = {
        canonicalize_name((found := Requirement(head)).name): (found, [one.strip() for one in rest])
        for head, *rest in lines
    }
    assert len(packages) == len(lines)
    return packages


def version(requirement: Requirement) -> str:
    """The one version that a locked requirement allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


@each_set
def test_what_is_declared_is_locked(name: str) -> None:
    """Every requirement of pyproject.toml has a version that it allows."""
    packages = locked(name)

    for requirement in map(Requirement, DECLARED[name]):
        found, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version(found))


@each_set
def test_whatever_is_locked_has_hashes(name: str) -> None:
    """Each package is pinned to one version, whose files are known by SHA-256."""
    for requirement, hashes in locked(name).values():
        assert version(requirement)
        assert hashes
        assert [one for one in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", one)] == []


@each_set
def test_what_locked_packages_need_is_locked_too(name: str) -> None:
    """As far as they are installed here: nothing would be fetched besides."""
    packages = locked(name)
    lacking = {
        f"{package} needs {needed}"
        for package, (requirement, _) in packages.items()
        for needed in needs_of(package, version(requirement))
        if needed not in packages
    }

    assert lacking == set()


def needs_of(package: str, pinned: str) -> set[str]:
    """The packages that this one needs here; none if it is not here in that version."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return set()
    needed = map(Requirement, found.requires or () if found.version == pinned else ())
    return {
        canonicalize_name(one.name)
        for one in needed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def test_one_version_of_each_package_is_locked() -> None:
    """So whichever sets are installed together agree."""
    versions: dict[str, set[str]] = {}
    for name in DECLARED:
        for package, (requirement, _) in locked(name).items():
            versions.setdefault(package, set()).add(version(requirement))

    assert {package for package, found in versions.items() if len(found) > 1} == set()


def test_actions_are_named_by_commit() -> None:
    """A tag could be moved; the version stands beside, for people."""
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    used = re.findall(r"uses: *(.*)", "\n".join(path.read_text("utf-8") for path in workflows))

    assert used
    assert [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


def test_the_base_image_is_named_by_digest() -> None:
    """The same one in both stages."""
    text = (ROOT / "scripts" / "Containerfile").read_text("utf-8")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)

    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:[\w.-]+@sha256:[0-9a-f]{64}", bases[0])
