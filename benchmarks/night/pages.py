"""The tables of docs/scale.md, made of a measured night and of the capacity formulas."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.night.cases import SHAPES, plain_shape
from benchmarks.night.run import SETTINGS
from benchmarks.night.steps import BY_NAME, FIXED_SECONDS
from benchmarks.night.text import alone_tables, forecast_table, night_heading, step_table
from benchmarks.night.work import WORK, seconds_at
from benchmarks.results import table
from mf_core.capacity import Counts, forecast
from mf_core.config import make_config

PAGE = ROOT / "docs" / "scale.md"
# What the sizes ahead are reckoned by, and with what machine hours cost.
LOOKED_AT = (100_000, 20_000_000, 1_000_000_000, 10_000_000_000)
CORES = 2
USD_PER_CORE_HOUR = 0.05
USD_PER_GIB_HOUR = 0.005
_GIB = 1 << 30
# A step that takes so many times what another shape's pace says has degraded.
DEGRADED = 2.0


def write_page(about: Mapping[str, Any]) -> None:
    """Put the tables of a measured night into docs/scale.md.

    Raises:
        ValueError: the page lacks a place for one of them.
    """
    text = PAGE.read_text()
    for name, content in _contents(about).items():
        text = with_part(text, name, content)
    PAGE.write_text(text)


def _contents(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands in each place of the page."""
    return {
        "steps": f"{night_heading(about)}\n\n{step_table(about)}",
        "alone": "\n\n".join(alone_tables(about)) or "Not measured in this run.",
        "predictions": forecast_table(about),
        "shapes": shapes_table(about),
        "sizes": sizes_table(about),
        "hours": hours_table(about),
    }


def with_part(text: str, name: str, content: str) -> str:
    """Return the text of a page with `content` in its place `name`.

    Raises:
        ValueError: there is no such place.
    """
    begin, end = (f"<!-- {name}: {word} -->" for word in ("written by make bench", "end"))
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page has no lines {begin!r} and {end!r}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def shapes_table(about: Mapping[str, Any]) -> str:
    """Return the seconds of each step on the odd shapes, beside the pace of the plain million."""
    plain = about["cases"].get("1m")
    measured = {name: about["cases"][name] for name in SHAPES if name in about["cases"]}
    if plain is None or not measured:
        return "Not measured in this run."
    rows = [list(_shape_row(step, plain, measured)) for step in WORK]
    return table(["step", "grows with", *measured], rows)


def _shape_row(
    step: str, plain: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    yield step
    yield WORK[step][1]
    pace = max(plain["steps"][step]["seconds"] - FIXED_SECONDS, 0.0)
    for case in measured.values():
        took = case["steps"][step]["seconds"]
        by_pace = seconds_at(step, pace, plain["counts"], case["counts"]) + FIXED_SECONDS
        ratio = took / by_pace
        mark = "" if ratio <= DEGRADED else " SLOWER"
        yield f"{took:.1f} s, {ratio:.1f}x{mark}"


def sizes_table(about: Mapping[str, Any]) -> str:
    """Return what the capacity formulas say of sets from small to out of reach."""
    rows = []
    for n_ratings in LOOKED_AT:
        counts = _as_counts(_counts(n_ratings))
        wanted = forecast(make_config(SETTINGS), counts)
        rows.append(
            [
                f"{n_ratings:,}",
                f"{counts.n_users:,} x {counts.n_items:,}",
                *(f"{size / _GIB:,.1f}" for size in _memory_by_step(counts)),
                f"{wanted.temporary / _GIB:,.1f}",
                f"{wanted.artifacts / _GIB:,.1f}",
                f"{wanted.growth / _GIB:,.1f}",
            ]
        )
    heads = ["ratings", "users x items", "split", "evaluate", "prepare", "recommend", "refit"]
    return table([*heads, "temporary", "artifacts a night", "Postgres a night"], rows)


def _memory_by_step(counts: Counts) -> list[int]:
    """Return what the steps hold: split, evaluate, prepare, recommend, refit; in bytes."""
    from mf_core.solvers.forecast import training_memory

    config = make_config(SETTINGS)
    refit = training_memory(config, counts.n_ratings, (counts.n_users, counts.n_items))
    return [*forecast(config, counts).memory.values(), refit.host]


def hours_table(about: Mapping[str, Any]) -> str:
    """Return how long a night would take, each step at the pace of the largest set measured."""
    name, case = _largest(about)
    steps = [step for step in WORK if BY_NAME[step].of_night]
    rows = []
    for n_ratings in LOOKED_AT:
        counts = _counts(n_ratings)
        hours = [
            seconds_at(step, case["steps"][step]["seconds"], case["counts"], counts) / 3_600
            for step in steps
        ]
        longest = steps[hours.index(max(hours))]
        total = sum(hours)
        memory = max(_memory_by_step(_as_counts(counts))) / _GIB
        cost = total * (CORES * USD_PER_CORE_HOUR + memory * USD_PER_GIB_HOUR)
        cells = [f"{hour:,.2f}" for hour in hours]
        rows.append([f"{n_ratings:,}", *cells, f"{total:,.1f}", longest, f"{cost:,.2f}"])
    heads = ["ratings", *steps, "a night", "longest", "USD"]
    return f"Hours on {CORES} cores at the pace of `{name}`.\n\n{table(heads, rows)}"


def _largest(about: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the largest plain case that was measured."""
    plain = {name: case for name, case in about["cases"].items() if name not in SHAPES}
    name = max(plain, key=lambda name: plain[name]["counts"]["ratings"])
    return name, plain[name]


def _counts(n_ratings: int) -> dict[str, float]:
    shape = plain_shape(n_ratings)
    return {
        "ratings": n_ratings,
        "delta": n_ratings / 100,
        "users": shape.n_users,
        "items": shape.n_items,
    }


def _as_counts(counts: Mapping[str, float]) -> Counts:
    return Counts(int(counts["ratings"]), int(counts["users"]), int(counts["items"]))
