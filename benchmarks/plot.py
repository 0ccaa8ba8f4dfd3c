"""Pictures of results: `python plot.py RESULT.json ...` writes PNGs beside them.

It runs in Matplotlib's own environment, and so imports nothing of ours.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

# Okabe and Ito's colours, which colour-blind readers can tell apart; ours are the two strong ones.
_OURS = {"bayes": "#D55E00", "als": "#0072B2"}
_PEERS = {
    "libmf": "#009E73",
    "cmfrec": "#CC79A7",
    "surprise": "#8C8C8C",
    "spark": "#E69F00",
    "myfm": "#56B4E9",
}
_OTHER_PEER = "#444444"
_FOLDS_OF_PEERS = "#6B6B6B"
_INK = "#222222"
_GREY = "#666666"
_FAINT = "#E3E3E3"

System = dict[str, Any]


@dataclass(frozen=True, order=True)
class _End:
    """Where a curve ends, and what is written there; ends are sorted from below."""

    rmse: float
    seconds: float
    label: str
    colour: str
    ours: bool


def main() -> None:
    """Draw each of the files that the command line names."""
    plt.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": _INK,
            "axes.labelcolor": _INK,
        }
    )
    for path in map(Path, sys.argv[1:]):
        for suffix, figure in _pictures(json.loads(path.read_text())):
            target = path.with_name(f"{path.stem}{suffix}.png")
            figure.savefig(
                target,
                dpi=160,
                bbox_inches="tight",
                facecolor="white",
                # Without the version, so that the same results are the same bytes.
                metadata={"Software": None},
            )
            plt.close(figure)
            print(f"written to {target}")


def _pictures(about: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Yield each picture of one file of results, and what its name ends with."""
    if "sets" not in about:
        yield "", _folds(about["systems"])
        return

    for size, systems in about["sets"].items():
        shown = _one_per_peer(systems)
        yield f"_{size}", _curve(size, shown, about["machine"])


def _one_per_peer(systems: dict[str, System]) -> dict[str, System]:
    """Of a peer that ran with several settings, return the one that got furthest."""
    chosen: dict[str, System] = {}
    for key, system in systems.items():
        # A peer that failed before its first point has no curve.
        if not system["points"]:
            continue

        # Names of peers end with the setting that they ran with.
        name = key if key in _OURS else key.split("-")[0]
        if name not in chosen or _lowest(system) < _lowest(chosen[name]):
            chosen[name] = system
    return chosen


def _lowest(system: System) -> float:
    """Return the lowest RMSE that the system came to."""
    rmse = [point["rmse"] for point in system["points"]]
    return float(min(rmse))


def _curve(size: str, systems: dict[str, System], machine: str) -> Figure:
    figure, axes = plt.subplots(figsize=(8.6, 5.0))
    ends = [_draw_curve(axes, name, system) for name, system in systems.items()]
    _limit(axes, systems)
    _name_ends(axes, ends)

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("seconds of training (logarithmic)")
    axes.set_ylabel("RMSE on the held-out ratings")

    unit = "million" if size.endswith("m") else "thousand"
    title = f"{size[:-1]} {unit} ratings, rank 32"
    axes.set_title(title, loc="left", weight="bold", pad=24)
    axes.text(
        0,
        1.03,
        f"lower and further left is better · {machine}",
        transform=axes.transAxes,
        fontsize=8.5,
        color=_GREY,
    )
    _quieten(axes)
    return figure


def _draw_curve(axes: Axes, name: str, system: System) -> _End:
    points = sorted(system["points"], key=lambda point: point["seconds"])
    seconds = [point["seconds"] for point in points]
    rmse = [point["rmse"] for point in points]

    # Ours stand out and lie on top.
    ours = name in _OURS
    colour = _OURS[name] if ours else _PEERS.get(name, _OTHER_PEER)
    axes.plot(
        seconds,
        rmse,
        color=colour,
        linewidth=2.6 if ours else 1.5,
        marker="o",
        markersize=4.5 if ours else 3,
        zorder=3 if ours else 2,
    )
    return _End(
        rmse=rmse[-1],
        seconds=seconds[-1],
        label=system["label"],
        colour=colour,
        ours=ours,
    )


def _limit(axes: Axes, systems: dict[str, System]) -> None:
    """First sweeps are far off and would flatten the rest: cut them off above."""
    rmse = []
    best = []
    for system in systems.values():
        rmse += [point["rmse"] for point in system["points"]]
        best.append(_lowest(system))
    low = min(rmse)

    # The worst system's best is always in the picture, with some of the way that led there.
    spread = max(best) - min(best)
    high = min(max(rmse), max(best) + 0.6 * spread + 0.01)

    # Some room below, so that no marker lies on the axis.
    axes.set_ylim(low - 0.06 * (high - low), high)


def _name_ends(axes: Axes, ends: list[_End]) -> None:
    """Write each name at its line's end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = 0.052 * (high - low)
    previous = -1e9
    for end in sorted(ends):
        at = max(min(end.rmse, high), previous + gap)
        previous = at
        axes.annotate(
            end.label,
            (end.seconds, min(end.rmse, high)),
            xytext=(1.02, at),
            textcoords=axes.get_yaxis_transform(),
            color=end.colour,
            va="center",
            weight="bold" if end.ours else "normal",
            arrowprops={"arrowstyle": "-", "color": end.colour, "linewidth": 0.6, "alpha": 0.5},
            annotation_clip=False,
        )


def _folds(systems: dict[str, System]) -> Figure:
    """Draw the mean RMSE per system, the folds as faint dots."""
    measured = []
    for system in systems.values():
        if system["fits"] and not system["failed"]:
            measured.append(system)

    # Rows are counted from below: the best one is at the top.
    ordered = sorted(measured, key=_mean, reverse=True)

    figure, axes = plt.subplots(figsize=(8.6, 0.36 * len(ordered) + 1.2))
    for row, system in enumerate(ordered):
        _draw_folds(axes, row, system)

    labels = [system["label"] for system in ordered]
    axes.set_yticks(range(len(ordered)), labels)
    for text, system in zip(axes.get_yticklabels(), ordered, strict=True):
        text.set_weight("bold" if _is_ours(system) else "normal")
    axes.set_xlabel(
        "RMSE on the published folds u1..u5 (large: the mean; small: each fold and seed)"
    )
    axes.set_title("MovieLens 100K", loc="left", weight="bold")
    axes.margins(y=0.08)
    _quieten(axes)
    return figure


def _draw_folds(axes: Axes, row: int, system: System) -> None:
    mean = _mean(system)
    colour = _OURS["bayes"] if _is_ours(system) else _FOLDS_OF_PEERS
    rmse = [fit["rmse"] for fit in system["fits"]]

    axes.scatter(rmse, [row] * len(rmse), s=14, color=colour, alpha=0.25, linewidth=0)
    axes.scatter([mean], [row], s=52, color=colour, zorder=3)
    axes.annotate(
        f"{mean:.4f}",
        (mean, row),
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=colour,
    )


def _mean(system: System) -> float:
    """Return the mean RMSE over folds and seeds, which is what systems are ordered by."""
    fits = system["fits"]
    total = sum(fit["rmse"] for fit in fits)
    return float(total / len(fits))


def _is_ours(system: System) -> bool:
    """Say whether it is a solver of ours: in these results the label tells."""
    return bool(system["label"].startswith("ours"))


def _quieten(axes: Axes) -> None:
    """Take away what draws the eye from the data: lines round it, and marks on the axes."""
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)

    # The line at the bottom stays: it carries the scale.
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
