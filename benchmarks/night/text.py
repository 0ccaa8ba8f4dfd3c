"""The tables that people read of measured nights."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.night.alone import publishing_table, top_n_table
from benchmarks.night.steps import FIXED_SECONDS, STEPS
from benchmarks.results import heading, table

# So far may a prediction of memory or disk be off.
FORECAST_WITHIN = 0.25
_FORECAST_HEADS = ["set", "what", "predicted, MB", "measured, MB", "ratio", "within 25%"]
_HEADS = ["set", "step", "seconds", "floor, s", "ratio", "target", "held", "peak MB"]


def night_text(about: dict[str, Any]) -> str:
    """Return the tables: every step beside its floor, what the floors are, and the predictions."""
    sets = [f"- `{name}`: {case['about']}" for name, case in about["cases"].items()]
    floors = [f"- {step.name}: {step.floor}" for step in STEPS if step.floor]
    fixed = (
        f"Targets are for the seconds beyond {FIXED_SECONDS:g}, which connections and first calls "
        "take whatever the size."
    )
    return "\n\n".join(
        [
            night_heading(about),
            "\n".join(sets),
            step_table(about),
            "\n".join(["Floors, of the same rows in the same run:", "", *floors]),
            fixed,
            "What the capacity formulas say, beside what was measured:",
            forecast_table(about),
            *alone_tables(about),
        ]
    )


def alone_tables(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was measured of two steps alone, with a line on what it is."""
    if "top_n" in about:
        yield "Lists of random factors, seen items left out, beside the products of the factors."
        yield top_n_table(about["top_n"])
    if "publishing" in about:
        yield "Publishing, beside COPY of the same rows and the same indexes."
        yield publishing_table(about["publishing"])


def night_heading(about: Mapping[str, Any]) -> str:
    """Return the line over the tables, with the settings that somebody has changed."""
    changed = [f"`{name}={value}`" for name, value in about.get("overrides", {}).items()]
    said = f" Settings besides: {', '.join(changed)}." if changed else ""
    return f"{heading(dict(about))}{said}"


def step_table(about: Mapping[str, Any]) -> str:
    """Return the table of every step beside its floor."""
    return table(
        _HEADS, [row for name, case in about["cases"].items() for row in _rows(name, case)]
    )


def forecast_table(about: Mapping[str, Any]) -> str:
    """Return the table of what was predicted beside what was measured."""
    cases = about["cases"].items()
    return table(_FORECAST_HEADS, [row for entry in cases for row in _forecast_rows(*entry)])


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
