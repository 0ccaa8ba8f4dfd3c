"""The tables that people read of measured nights."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.night.steps import STEPS
from benchmarks.results import heading, table

# So far may a prediction of memory or disk be off.
FORECAST_WITHIN = 0.25
_FORECAST_HEADS = ["set", "what", "predicted, MB", "measured, MB", "ratio", "within 25%"]
_HEADS = ["set", "step", "seconds", "floor, s", "ratio", "target", "held", "peak MB"]


def night_text(about: dict[str, Any]) -> str:
    """Return the tables: every step beside its floor, and what the floors are."""
    cases = about["cases"].items()
    rows = [row for name, case in cases for row in _rows(name, case)]
    floors = [f"- {step.name}: {step.floor}" for step in STEPS if step.floor]
    return "\n\n".join(
        [
            heading(about),
            "\n".join(f"- `{name}`: {case['about']}" for name, case in about["cases"].items()),
            table(_HEADS, rows),
            table(_FORECAST_HEADS, [row for entry in cases for row in _forecast_rows(*entry)]),
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


def _forecast_rows(name: str, case: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield a line for all that the capacity formulas predict, beside what it came to."""
    if not case.get("finished"):
        return
    measured = {step: figures["peak_mb"] for step, figures in case["steps"].items()}
    for step, predicted in case["predicted"]["memory"].items():
        yield _forecast_row(name, f"memory of {step}", predicted / 1e6, measured[step])
    for kind, predicted in case["predicted"]["disk"].items():
        yield _forecast_row(name, kind, predicted / 1e6, case["disk"][kind] / 1e6)


def _forecast_row(name: str, what: str, predicted: float, measured: float) -> list[str]:
    ratio = predicted / measured
    held = "yes" if abs(ratio - 1) <= FORECAST_WITHIN else "NO"
    return [name, what, f"{predicted:,.0f}", f"{measured:,.0f}", f"{ratio:.2f}", held]


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
    return [
        f"**{name}**",
        "**a night**",
        f"{seconds:.1f}",
        f"{floors:.1f}",
        "",
        "",
        "",
        f"{peak:,.0f}",
    ]
