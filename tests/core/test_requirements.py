"""requirements.txt is what `make lock` makes of pyproject.toml, and what is installed here."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked() -> dict[str, Requirement]:
    """The pins that hold for this Python and platform, by name."""
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.lstrip().startswith("#")
    ]
    pins = [Requirement(line) for line in lines]

    return {
        canonicalize_name(pin.name): pin
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def wanted() -> list[Requirement]:
    """What pyproject.toml asks for, test tools included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(text)
        for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])
    ]


def closure(roots: list[Requirement]) -> set[str]:
    """The names of all that `roots` need, directly and not, by the metadata of what is installed."""
    found: set[str] = set()
    open_ends = [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]
    visited = set()

    while open_ends:
        name, extras = open_ends.pop()
        found.add(name)
        if (name, extras) in visited:
            continue
        visited.add((name, extras))
        for text in importlib.metadata.requires(name) or []:
            need = Requirement(text)
            if need.marker is None or any(
                need.marker.evaluate({"extra": extra}) for extra in (*extras, "")
            ):
                open_ends.append((canonicalize_name(need.name), frozenset(need.extras)))

    return found


def test_every_requirement_is_pinned_and_none_names_a_download_address() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert all(re.fullmatch(r"==[^,*]+", str(pin.specifier)) for pin in locked().values())
    assert "://" not in text
    assert "--" not in text


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_the_lock_satisfies_what_pyproject_asks_for(requirement: Requirement) -> None:
    pin = locked()[canonicalize_name(requirement.name)]
    [version] = [specifier.version for specifier in pin.specifier]

    assert requirement.specifier.contains(version, prereleases=True)


def test_the_lock_holds_exactly_what_is_needed() -> None:
    assert set(locked()) == closure(wanted())


def test_what_is_installed_is_what_is_locked() -> None:
    for name, pin in locked().items():
        assert pin.specifier.contains(importlib.metadata.version(name), prereleases=True), name
