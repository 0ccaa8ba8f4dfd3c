"""The tables that people read of measured nights."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.night.steps import STEPS
from benchmarks.results import heading, table

_HEADS = ["set", "step", "seconds", "floor, s", "ratio", "target", "held", "peak MB"]


def night_text(about: dict[str, Any]) -> str:
    """Return the tables: every step beside its floor, and what the floors are."""
    rows = [row for name, case in about["cases"].items() for row in _rows(name, case)]
    floors = [f"- {step.name}: {step.floor}" for step in STEPS if step.floor]
    return "\n\n".join(
        [
            heading(about),
            "\n".join(f"- `{name}`: {case['about']}" for name, case in about["cases"].items()),
            table(_HEADS, rows),
            "\n".join(["Floors, of the same rows in the same run:", "", *floors]),
        ]
    )


def _rows(name: str, case: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each step that was measured, and one for the whole night."""
    for step in STEPS:
        measured = case["steps"].get(step.name)
        if measured is None:
            continue
        missed = step.missed(measured)
        held = "" if not step.target() else "MISSED: " + ", ".join(missed) if missed else "yes"
        yield [name, step.name, *_seconds(measured), step.target(), held, _peak(measured)]
    if case.get("finished"):
        yield _whole(name, case["steps"])


def _seconds(measured: Mapping[str, Any]) -> list[str]:
    floor = measured.get("floor_seconds")
    if not floor:
        return [f"{measured['seconds']:.2f}", "", ""]
    ratio = measured["seconds"] / floor
    return [f"{measured['seconds']:.2f}", f"{floor:.2f}", f"{ratio:.2f}x"]


def _peak(measured: Mapping[str, Any]) -> str:
    return f"{measured['peak_mb']:,.0f}"


def _whole(name: str, steps: Mapping[str, Any]) -> list[str]:
    """Return the line of the whole night: what its steps and their floors add up to."""
    of_night = [steps[step.name] for step in STEPS if step.of_night]
    seconds = sum(measured["seconds"] for measured in of_night)
    floors = sum(measured["floor_seconds"] or 0.0 for measured in of_night)
    peak = max(measured["peak_mb"] for measured in of_night)
    return [f"**{name}**", "**a night**", f"{seconds:.1f}", f"{floors:.1f}", "", "", "", f"{peak:,.0f}"]
