"""Training at scale: held-out RMSE over seconds on the synthetic sets, ours and the peers in one run, and linear growth.

Every fit runs in a process of its own, one after the other, so that its peak memory is its own. A verdict compares measured
points only, nothing between them: a peer's best one, and our first one at or below its RMSE.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import cache_folder
from benchmarks.generate import write_sets
from benchmarks.peer_runs import PREDICTED_IN_HALVES, SCALE
from benchmarks.results import heading, kept, table, this_run, write
from benchmarks.running import FAILURES, Point, our_points, peer_points

_RANK = 32
OURS: dict[str, dict[str, Any]] = {
    "als": {
        "label": "ours, als",
        "iterations": 8,
        "points": list(range(1, 9)),
        "overrides": {"rating_head.solver": "als", "rating_head.als.n_factors": _RANK},
    },
    "bayes": {
        "label": "ours, bayes",
        "iterations": 40,
        "points": [1, 6, 8, 10, 12, 16, 20, 24, 28, 32, 36, 40],
        "overrides": {
            "rating_head.solver": "bayes",
            "rating_head.bayes.n_factors": _RANK,
            "rating_head.bayes.burn_in": 4,
            # Who rated what tells nothing here: the generator draws it apart from the ratings.
            "rating_head.bayes.pattern_rank": 0,
        },
    },
}
# Chosen on a fiftieth of each set's training ratings, as the peers' were per set.
_PER_SET = {
    "10m": {"als": {"rating_head.als.regularization": 0.07}},
    "20m": {"als": {"rating_head.als.regularization": 0.05}},
}
MEMORY_LIMIT_GB = {"als": 2.5, "bayes": 6.0}
# Sweeps on the largest set, and the first one that counts; smaller sets get more, so that each is looked at for about as long.
LINEAR = {"als": (8, 2), "bayes": (12, 4)}
_LINEAR_RATINGS, _MOST_TIMES = 19_000_000, 8
LINEAR_SETS = (("1m", "5m", "20m"), ("1m_users", "5m_users", "20m"))
LINEAR_WITHIN = 1.5


def run_scale(
    sizes: list[str], only: set[str] | None, overrides: dict[str, str], run: str | None, name: str
) -> None:
    """Measure the curves of all systems, or of `only` those, on the sets `sizes`, and write results/NAME.

    `run`: keep the others' points from results/NAME.json, which must be of that run on this machine.
    """
    about = kept(name, run) or this_run() | {"settings": overrides, "sets": {}}
    paths = write_sets(cache_folder() / "data", sizes)
    for size in sizes:
        systems = about["sets"].setdefault(size, {})
        for key in [*OURS, *SCALE[size]]:
            if only is None or key in only or key.split("-")[0] in only:
                systems[key] = _measure(size, key, paths[size], overrides)
                write(name, about, scale_text(about))


def _measure(size: str, key: str, data: Path, overrides: dict[str, str]) -> dict[str, Any]:
    label = OURS[key]["label"] if key in OURS else SCALE[size][key].label
    chosen = _PER_SET.get(size, {}).get(key, {})
    settings = (
        {**OURS[key]["overrides"], **chosen, **overrides}
        if key in OURS
        else SCALE[size][key].settings
    )
    found: dict[str, Any] = {"label": label, "settings": settings, "points": [], "failed": None}
    if key in OURS:
        source = our_points(data, PREDICTED_IN_HALVES, {**OURS[key], "overrides": settings})
    else:
        source = peer_points(SCALE[size][key], data, PREDICTED_IN_HALVES, seed=0)
    try:
        for point in source:
            if "rmse" in point:
                print(f"{size} {label}: {_shown(point)}", flush=True)
                found["points"].append(point)
    except FAILURES as failure:
        found["failed"] = str(failure)
        print(f"{size} {label}: failed: {failure}", flush=True)
    return found


def _shown(point: Point) -> str:
    return f"{point['iterations']} iterations, {point['seconds']:.1f} s, RMSE {point['rmse']:.4f}, {point['peak_mb'] / 1e3:.2f} GB"


def best(points: list[Point]) -> Point:
    """Return the point of the lowest RMSE."""
    return min(points, key=lambda point: point["rmse"])


def first_at(points: list[Point], rmse: float) -> Point | None:
    """Return the earliest measured point at or below `rmse`, None where there is none."""
    reached = [point for point in points if point["rmse"] <= rmse]
    return min(reached, key=lambda point: point["seconds"]) if reached else None


def scale_text(about: dict[str, Any]) -> str:
    """Return the tables and the verdicts."""
    parts = [heading(about)]
    for size, systems in about["sets"].items():
        parts += [
            f"## {size} ratings, rank {_RANK}",
            _curve_table(systems),
            "\n".join(verdicts(size, systems)),
        ]
    return "\n\n".join(part for part in parts if part)


def _curve_table(systems: dict[str, Any]) -> str:
    rows = []
    for system in systems.values():
        points = sorted(system["points"], key=lambda point: point["seconds"])
        failed = f"failed: {system['failed']}".replace("|", "/") if system["failed"] else ""
        if not points:
            rows.append([system["label"], failed, "", "", ""])
            continue
        lowest = best(points)
        shown = f"{lowest['rmse']:.4f} at {lowest['seconds']:.1f} s"
        curve = ", ".join(
            f"{point['rmse']:.4f} at {point['seconds']:.1f}" for point in _spread(points)
        )
        peak = max(point["peak_mb"] for point in points) / 1e3
        rows.append(
            [
                system["label"],
                f"{shown} {failed}".strip(),
                curve,
                f"{lowest['prepare_seconds']:.1f}",
                f"{peak:.2f}",
            ]
        )
    return table(
        [
            "system",
            "best RMSE",
            "on the way, at s",
            "preparing, s (not counted)",
            "peak memory, GB",
        ],
        rows,
    )


def _spread(points: list[Point]) -> list[Point]:
    """Return some four of the points."""
    return points[:: max(1, len(points) // 4)]


def verdicts(size: str, systems: dict[str, Any]) -> list[str]:
    """Return a line per solver of ours and peer: who reaches the peer's best RMSE when; and one per solver on memory."""
    lines = []
    for key in OURS:
        ours = systems.get(key, {}).get("points")
        if not ours:
            continue
        label = systems[key]["label"]
        peak = max(point["peak_mb"] for point in ours) / 1e3
        limit = MEMORY_LIMIT_GB[key]
        held = (
            f", {'within' if peak <= limit else 'OVER'} the limit of {limit:g} GB"
            if size == "20m"
            else ""
        )
        lines.append(f"- {label}: best {best(ours)['rmse']:.4f}; peak memory {peak:.2f} GB{held}")
        for peer_key, peer in systems.items():
            if peer_key not in OURS and peer["points"]:
                lines.append(_against(label, ours, peer["label"], peer["points"]))
    return lines


def _against(label: str, ours: list[Point], peer: str, theirs: list[Point]) -> str:
    target = best(theirs)
    reached = first_at(ours, target["rmse"])
    if reached is None:
        return f"- {label} does not reach {peer}'s best, {target['rmse']:.4f} at {target['seconds']:.1f} s"
    ratio = target["seconds"] / reached["seconds"]
    return (
        f"- {label} is at {reached['rmse']:.4f} after {reached['seconds']:.1f} s; {peer} at its best, {target['rmse']:.4f}, "
        f"after {target['seconds']:.1f} s: {ratio:.2f}x as fast"
    )


def run_linear(overrides: dict[str, str], name: str) -> None:
    """Measure seconds per sweep and rating on growing sets, and write results/NAME."""
    about: dict[str, Any] = this_run() | {"settings": overrides, "pace": {}}
    names = sorted({size for sizes in LINEAR_SETS for size in sizes})
    paths = write_sets(cache_folder() / "data", names)
    for key in OURS:
        about["pace"][key] = {}
        for size in names:
            about["pace"][key][size] = _pace(key, paths[size], overrides)
            print(f"{key} {size}: {about['pace'][key][size]}", flush=True)
    write(name, about, linear_text(about))


def _pace(key: str, data: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """Return the fastest of the later sweeps: the first ones trace TensorFlow's functions, and for bayes average nothing yet.

    The fastest, since whatever else the machine does only ever adds to a sweep.
    """
    iterations, first = LINEAR[key]
    settings = {**OURS[key]["overrides"], "rating_head.bayes.burn_in": first - 1, **overrides}
    n_ratings = _n_train(data)
    times = min(_MOST_TIMES, max(1, round(_LINEAR_RATINGS / n_ratings)))
    try:
        task = {"iterations": times * iterations, "points": [], "overrides": settings}
        points = list(our_points(data, PREDICTED_IN_HALVES, task))
    except FAILURES as failure:
        return {"failed": str(failure)}
    seconds = min(point["sweep_seconds"] for point in points[first:])
    peak = max(point["peak_mb"] for point in points)
    cost = seconds / n_ratings * 1e9
    return {
        "n_ratings": n_ratings,
        "sweep_seconds": seconds,
        "nanoseconds_per_rating": cost,
        "peak_mb": peak,
    }


def _n_train(data: Path) -> int:
    with np.load(data) as arrays:
        return len(arrays["trr"])


def linear_text(about: dict[str, Any]) -> str:
    """Return the tables, a line each on whether the cost grows linearly."""
    parts = [heading(about)]
    for sizes in LINEAR_SETS:
        what = (
            "a part of the users"
            if sizes[0].endswith("users")
            else "a part of the ratings, users and items as many"
        )
        rows = []
        for key, paces in about["pace"].items():
            found = [paces[size] for size in sizes]
            if failed := [pace["failed"] for pace in found if "failed" in pace]:
                rows.append([key, f"failed: {failed[0]}".replace("|", "/"), "", "", ""])
                continue
            costs = [pace["nanoseconds_per_rating"] for pace in found]
            ratio = max(costs) / min(costs)
            held = (
                f"{ratio:.2f}x ({'within' if ratio <= LINEAR_WITHIN else 'OVER'} {LINEAR_WITHIN}x)"
            )
            rows.append([key, *(f"{cost:.0f}" for cost in costs), held])
        parts += [
            f"Nanoseconds per sweep and rating; a smaller set is {what}.",
            table(["solver", *sizes, "spread"], rows),
        ]
    return "\n\n".join(parts)
