"""Training at scale on the synthetic sets: held-out RMSE over seconds, and linear growth.

Ours and the peers are measured in one run. Every fit runs in a process of its own, one after the
other, so that its peak memory is its own. A verdict compares measured points only, nothing between
them: a peer's best one, and our first one at or below its RMSE.
"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import cache_folder
from benchmarks.generate import write_sets
from benchmarks.peer_runs import PREDICTED_IN_HALVES, SCALE
from benchmarks.request import Request
from benchmarks.results import heading, kept, table, this_run, without_bars, write
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
_PER_SET: dict[str, dict[str, dict[str, Any]]] = {
    "10m": {"als": {"rating_head.als.regularization": 0.07}},
    "20m": {"als": {"rating_head.als.regularization": 0.05}},
}
MEMORY_LIMIT_GB = {"als": 2.5, "bayes": 6.0}

# Sweeps on the largest set, and the first one that counts.
LINEAR = {"als": (8, 2), "bayes": (12, 4)}
# Smaller sets get more sweeps, so that each is looked at for about as long.
_LINEAR_RATINGS = 19_000_000
_MOST_TIMES = 8
LINEAR_SETS = (("1m", "5m", "20m"), ("1m_users", "5m_users", "20m"))
LINEAR_WITHIN = 1.5


def run_scale(request: Request, sizes: list[str]) -> None:
    """Measure the curves of what `request` wants on the sets `sizes`, and write results/NAME.

    Raises:
        SystemExit: the points to keep are of another run or machine.
    """
    about = kept(request.name, request.run) or this_run() | {
        "settings": request.overrides,
        "sets": {},
    }
    paths = write_sets(cache_folder() / "data", sizes)
    for size in sizes:
        systems = about["sets"].setdefault(size, {})
        for key in filter(request.wants, (*OURS, *SCALE[size])):
            systems[key] = _measure(size, key, paths[size], request.overrides)
            # After each system, so that an interrupted run leaves what it has measured.
            write(request.name, about, scale_text(about))


def _measure(size: str, key: str, data: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """Return the points of one system, those before a failure too."""
    settings: dict[str, Any]
    if key in OURS:
        label = OURS[key]["label"]
        chosen = _PER_SET.get(size, {}).get(key, {})
        settings = {**OURS[key]["overrides"], **chosen, **overrides}
        source = our_points(data, PREDICTED_IN_HALVES, {**OURS[key], "overrides": settings})
    else:
        peer = SCALE[size][key]
        label = peer.label
        settings = peer.settings
        source = peer_points(peer, data, PREDICTED_IN_HALVES, seed=0)

    points: list[Point] = []
    failed = None

    try:
        for point in source:
            # Ours print a point per iteration, and not all of them were evaluated.
            if "rmse" not in point:
                continue
            print(f"{size} {label}: {_shown(point)}", flush=True)
            points.append(point)
    except FAILURES as failure:
        failed = str(failure)
        print(f"{size} {label}: failed: {failure}", flush=True)

    return {"label": label, "settings": settings, "points": points, "failed": failed}


def _shown(point: Point) -> str:
    """Return a point in one line, for who watches the run."""
    peak_gb = point["peak_mb"] / 1e3
    return (
        f"{point['iterations']} iterations, {point['seconds']:.1f} s, "
        f"RMSE {point['rmse']:.4f}, {peak_gb:.2f} GB"
    )


def best(points: list[Point]) -> Point:
    """Return the point of the lowest RMSE."""
    return min(points, key=lambda point: point["rmse"])


def first_at(points: list[Point], rmse: float) -> Point | None:
    """Return the earliest measured point at or below `rmse`, None where there is none."""
    reached = [point for point in points if point["rmse"] <= rmse]
    if not reached:
        return None
    return min(reached, key=lambda point: point["seconds"])


def scale_text(about: dict[str, Any]) -> str:
    """Return the tables and the verdicts."""
    parts = [heading(about)]
    for size, systems in about["sets"].items():
        parts.append(f"## {size} ratings, rank {_RANK}")
        parts.append(_curve_table(systems))
        # There is none before both ours and a peer have points.
        lines = verdicts(size, systems)
        if lines:
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _curve_table(systems: dict[str, Any]) -> str:
    heads = [
        "system",
        "best RMSE",
        "on the way, at s",
        "preparing, s (not counted)",
        "peak memory, GB",
    ]
    rows = [_curve_row(system) for system in systems.values()]
    return table(heads, rows)


def _curve_row(system: dict[str, Any]) -> list[str]:
    """Return the system's line of the table; a failed one keeps what it has measured."""
    label = system["label"]
    points = sorted(system["points"], key=lambda point: point["seconds"])
    failed = without_bars(f"failed: {system['failed']}") if system["failed"] else ""
    if not points:
        return [label, failed, "", "", ""]

    lowest = best(points)
    reached = f"{lowest['rmse']:.4f} at {lowest['seconds']:.1f} s"

    curve = []
    for point in _spread(points):
        curve.append(f"{point['rmse']:.4f} at {point['seconds']:.1f}")

    return [
        label,
        f"{reached} {failed}".strip(),
        ", ".join(curve),
        f"{lowest['prepare_seconds']:.1f}",
        f"{_peak_gb(points):.2f}",
    ]


def _spread(points: list[Point]) -> list[Point]:
    """Return some four of the points, evenly spread over all."""
    step = len(points) // 4
    if step == 0:
        return points
    return points[::step]


def _peak_gb(points: list[Point]) -> float:
    """Return the largest resident memory in GB.

    It only grows during a fit, but not every peer's points are of one fit.
    """
    peak_mb = max(point["peak_mb"] for point in points)
    return float(peak_mb / 1e3)


def verdicts(size: str, systems: dict[str, Any]) -> list[str]:
    """Return a line per solver of ours on its memory, each followed by a line per peer.

    The latter say when ours reaches the peer's best RMSE.
    """
    lines = []
    for key in OURS:
        if key not in systems or not systems[key]["points"]:
            continue

        # Memory first, then the peers that have something to compare with.
        ours = systems[key]
        lines.append(_memory_verdict(size, key, ours))
        for peer_key, peer in systems.items():
            if peer_key not in OURS and peer["points"]:
                lines.append(_verdict(ours, peer))
    return lines


def _memory_verdict(size: str, key: str, ours: dict[str, Any]) -> str:
    points = ours["points"]
    lowest = best(points)
    peak = _peak_gb(points)
    reached = f"best {lowest['rmse']:.4f}; peak memory {peak:.2f} GB"
    # The limit is one for the largest set.
    if size != "20m":
        return f"- {ours['label']}: {reached}"

    limit = MEMORY_LIMIT_GB[key]
    held = "within" if peak <= limit else "OVER"
    return f"- {ours['label']}: {reached}, {held} the limit of {limit:g} GB"


def _verdict(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """Return how long ours takes to the peer's best RMSE, and how long the peer took."""
    mine = ours["label"]
    theirs = peer["label"]
    target = best(peer["points"])
    reached = first_at(ours["points"], target["rmse"])

    goal = f"{target['rmse']:.4f}"
    their_seconds = f"{target['seconds']:.1f} s"
    if reached is None:
        return f"- {mine} does not reach {theirs}'s best, {goal} at {their_seconds}"

    my_seconds = f"{reached['seconds']:.1f} s"
    ratio = target["seconds"] / reached["seconds"]
    return (
        f"- {mine} is at {reached['rmse']:.4f} after {my_seconds}; "
        f"{theirs} at its best, {goal}, after {their_seconds}: "
        f"{ratio:.2f}x as fast"
    )


def run_linear(request: Request) -> None:
    """Measure seconds per sweep and rating on growing sets, and write results/NAME."""
    about: dict[str, Any] = this_run() | {
        "settings": request.overrides,
        "pace": {},
    }
    # The largest set ends both rows of sets, and is measured once.
    names = sorted(set().union(*LINEAR_SETS))
    paths = write_sets(cache_folder() / "data", names)

    for key in OURS:
        about["pace"][key] = {}
        for size in names:
            pace = _pace(key, paths[size], request.overrides)
            about["pace"][key][size] = pace
            print(f"{key} {size}: {pace}", flush=True)

    write(request.name, about, linear_text(about))


def _pace(key: str, data: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """Return the seconds of the fastest of the later sweeps.

    The first ones trace TensorFlow's functions, and for bayes average nothing yet. The fastest one
    counts, since whatever else the machine does only ever adds to a sweep.
    """
    iterations, first = LINEAR[key]
    n_ratings = _n_train(data)
    times = round(_LINEAR_RATINGS / n_ratings)
    times = min(_MOST_TIMES, max(1, times))

    settings = {
        **OURS[key]["overrides"],
        "rating_head.bayes.burn_in": first - 1,
        **overrides,
    }
    task = {
        "iterations": times * iterations,
        # No errors: only the sweeps are timed.
        "points": [],
        "overrides": settings,
    }
    try:
        points = list(our_points(data, PREDICTED_IN_HALVES, task))
    except FAILURES as failure:
        return {"failed": str(failure)}

    seconds = min(point["sweep_seconds"] for point in points[first:])
    return {
        "n_ratings": n_ratings,
        "sweep_seconds": seconds,
        "nanoseconds_per_rating": seconds / n_ratings * 1e9,
        "peak_mb": max(point["peak_mb"] for point in points),
    }


def _n_train(data: Path) -> int:
    """Return the number of training ratings in a file of `benchmarks.generate`."""
    with np.load(data) as arrays:
        return len(arrays["trr"])


def linear_text(about: dict[str, Any]) -> str:
    """Return the tables, a line each on whether the cost grows linearly."""
    parts = [heading(about)]
    for sizes in LINEAR_SETS:
        what = "a part of the ratings, users and items as many"
        if sizes[0].endswith("users"):
            what = "a part of the users"
        parts.append(f"Nanoseconds per sweep and rating; a smaller set is {what}.")

        rows = []
        for key, paces in about["pace"].items():
            of_sizes = [paces[size] for size in sizes]
            rows.append(_pace_row(key, of_sizes))
        parts.append(table(["solver", *sizes, "spread"], rows))
    return "\n\n".join(parts)


def _pace_row(key: str, paces: list[dict[str, Any]]) -> list[str]:
    """Return the solver's line of the table: its cost on each set, and whether they differ."""
    for pace in paces:
        if "failed" in pace:
            return [key, without_bars(f"failed: {pace['failed']}"), "", "", ""]

    # Linear growth is the same cost per rating on every set.
    costs = [pace["nanoseconds_per_rating"] for pace in paces]
    ratio = max(costs) / min(costs)
    held = "within" if ratio <= LINEAR_WITHIN else "OVER"

    shown = [f"{cost:.0f}" for cost in costs]
    return [key, *shown, f"{ratio:.2f}x ({held} {LINEAR_WITHIN}x)"]
