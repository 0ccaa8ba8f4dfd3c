"""requirements.txt is what `make lock` makes of pyproject.toml, and what is installed here."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKED = ("airflow", "celery", "kubernetes", "train", "embedded", "metrics", "tune", "s3", "dev")
"""The extras that requirements.txt holds."""


def locked() -> dict[str, Requirement]:
    """The pins that hold for this Python and platform, by name."""
    text = (ROOT / "requirements.txt").read_text()
    pins: dict[str, Requirement] = {}

    for line in text.splitlines():
        if not line or line.lstrip().startswith("#"):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate():
            pins[canonicalize_name(pin.name)] = pin

    return pins


def wanted() -> list[Requirement]:
    """What pyproject.toml asks for, with the extras that are locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *(text for name in LOCKED for text in extras[name])]
    return [Requirement(text) for text in texts]


def is_needed(need: Requirement, extras: frozenset[str]) -> bool:
    """Say whether a requirement holds here, with any of the extras or with none."""
    if need.marker is None:
        return True
    return any(need.marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def closure(roots: list[Requirement]) -> set[str]:
    """The names of all that `roots` need, directly or not, as what is installed says."""
    found: set[str] = set()
    visited = set()
    open_ends = [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]

    while open_ends:
        name, extras = open_ends.pop()
        found.add(name)
        if (name, extras) in visited:
            continue
        visited.add((name, extras))

        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if is_needed(need, extras):
                open_ends.append((canonicalize_name(need.name), frozenset(need.extras)))

    return found


def test_every_requirement_is_pinned_and_none_names_a_download_address() -> None:
    text = (ROOT / "requirements.txt").read_text()
    specifiers = [str(pin.specifier) for pin in locked().values()]

    assert all(re.fullmatch(r"==[^,*]+", specifier) for specifier in specifiers)
    assert "://" not in text
    assert "--" not in text


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_the_lock_satisfies_what_pyproject_asks_for(requirement: Requirement) -> None:
    pin = locked()[canonicalize_name(requirement.name)]
    [version] = [specifier.version for specifier in pin.specifier]

    assert requirement.specifier.contains(version, prereleases=True)


def test_the_lock_holds_exactly_what_is_needed() -> None:
    needed = closure(wanted())

    assert set(locked()) == needed


def test_what_is_installed_is_what_is_locked() -> None:
    for name, pin in locked().items():
        installed = importlib.metadata.version(name)
        assert pin.specifier.contains(installed, prereleases=True), name
