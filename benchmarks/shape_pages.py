"""What people read of `shapes`: the whole tables, and a short one for README and model page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.results import heading, table
from benchmarks.shape_results import LIST_PEERS, NDCG_MARGIN, RATING_PEERS, RMSE_MARGIN

# Between these lines a page has what `make bench BENCH_ARGS=pages` wrote.
BEGIN = "<!-- shapes: written by make bench BENCH_ARGS=pages -->"
END = "<!-- shapes: end -->"
PAGES = (ROOT / "README.md", ROOT / "docs" / "model.md")

_TITLES = {
    "lists": "Lists, NDCG@10; the loss is the best peer's minus ours, with one-sided 95% bounds.",
    "ratings": "Ratings, RMSE; the loss is ours minus the best peer's, of biases, myfm and our own "
    "`als`. With side information are only `ours_side` and `myfm_side`.",
}


def text_of(about: Mapping[str, Any]) -> str:
    """Return the tables of lists and of ratings, and the cases on which ours lose."""
    cases = about["cases"]
    parts = [heading(dict(about)), *_measured_elsewhere(about)]
    for kind, metric, names in (
        ("lists", "ndcg", LIST_PEERS),
        ("ratings", "rmse", (*RATING_PEERS, "ours_side", "myfm_side")),
    ):
        parts.append(_TITLES[kind])
        heads = ["set", "ours", *names, "best peer", "loss", "low", "high"]
        rows = [_row(name, case, kind, metric, names) for name, case in cases.items()]
        parts.append(table(heads, [row for row in rows if row]))
    parts.append(losses_of(about))

    failed = [
        f"- {name}, {system}: {reason}"
        for name, case in cases.items()
        for system, reason in case.get("failed", {}).items()
    ]
    if failed:
        parts.append("\n".join(["Not measured:", "", *failed]))
    return "\n\n".join(parts)


def _measured_elsewhere(about: Mapping[str, Any]) -> list[str]:
    """Return a line for each other commit or machine that the run went on with."""
    cases: dict[str, list[str]] = {}
    for name, case in about["cases"].items():
        measured = {**about, **case.get("measured", {})}
        place = f"commit {measured['commit']}; {measured['machine']}"
        cases.setdefault(place, []).append(name)
    first = f"commit {about['commit']}; {about['machine']}"
    return [f"{', '.join(names)}: {place}." for place, names in cases.items() if place != first]


def _row(
    name: str, case: Mapping[str, Any], kind: str, metric: str, names: Sequence[str]
) -> list[str]:
    """Return a case's line; none where ours is not measured."""
    against = case.get(kind)
    if against is None:
        return []
    cells = [_cell(case, system, metric) for system in ("ours", *names)]
    bounds = [f"{against[bound]:+.4f}" for bound in ("loss", "loss_low", "loss_high")]
    return [name, *cells, against["best_peer"], *bounds]


def _cell(case: Mapping[str, Any], system: str, metric: str) -> str:
    figure = case["systems"].get(system, {}).get(metric)
    return "" if figure is None else f"{figure:.4f}"


def short_text_of(about: Mapping[str, Any]) -> str:
    """Return one table over all cases, and the cases on which ours lose."""
    heads = [
        *("set", "ratings", "a user", "items he has not rated"),
        *("NDCG@10", "EASE on values", "implicit's ALS", "popularity"),
        *("RMSE", "tuned biases", "`als`", "myfm"),
    ]
    rows = [
        [
            name,
            *_shape_cells(case),
            *(_cell(case, system, "ndcg") for system in ("ours", "ease", "ials", "popularity")),
            *(_cell(case, system, "rmse") for system in ("ours", "biases", "ours_als", "myfm")),
        ]
        for name, case in about["cases"].items()
    ]
    return "\n\n".join([table(heads, rows), losses_of(about)])


def _shape_cells(case: Mapping[str, Any]) -> list[str]:
    shape = case.get("shape")
    if shape is None:
        return ["", "", ""]
    return [
        f"{shape['n_train'] + shape['n_test']:,}",
        f"{shape['ratings_per_user']:.1f}",
        f"{shape['items_not_rated']:,.0f}",
    ]


def losses_of(about: Mapping[str, Any]) -> str:
    """Return in words on which cases a peer is ahead of ours by more than the margin."""
    margins = {"lists": f"{NDCG_MARGIN}", "ratings": f"{RMSE_MARGIN} on a scale from 1 to 5"}
    lines = []
    for kind, margin in margins.items():
        lost = [
            f"{name} ({against['best_peer']} by {against['loss']:.4f})"
            for name, case in about["cases"].items()
            if (against := case.get(kind)) and against["loss"] > against["margin"]
        ]
        said = ", ".join(lost) if lost else "none"
        lines.append(f"A peer is ahead in {kind} by more than {margin}: {said}.")
    return "\n\n".join(lines)


def write_pages(about: Mapping[str, Any]) -> None:
    """Put the short table where README and model page have its place.

    Raises:
        ValueError: a page has no such place.
    """
    for page in PAGES:
        page.write_text(with_table(page, about))


def with_table(page: Path, about: Mapping[str, Any]) -> str:
    """Return the text of `page` with the short table of `about` in its place."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{short_text_of(about)}\n\n{END}{after}"
