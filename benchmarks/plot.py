"""Pictures of results: `python plot.py RESULT.json ...` writes PNGs beside them. Runs in Matplotlib's own environment."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
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
_INK, _FAINT = "#222222", "#E3E3E3"


def main() -> None:
    plt.rcParams.update(
        {"font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK}
    )
    for path in map(Path, sys.argv[1:]):
        about = json.loads(path.read_text())
        pictures = _curves(about) if "sets" in about else [("", _folds(about))]
        for suffix, figure in pictures:
            target = path.with_name(f"{path.stem}{suffix}.png")
            figure.savefig(
                target, dpi=160, bbox_inches="tight", facecolor="white", metadata={"Software": None}
            )
            plt.close(figure)
            print(f"written to {target}")


def _curves(about):
    for size, systems in about["sets"].items():
        yield f"_{size}", _curve(size, _one_per_peer(systems), about)


def _one_per_peer(systems):
    """Of a peer that ran with several settings, the one that got furthest."""
    chosen = {}
    for key, system in systems.items():
        name = key if key in _OURS else key.split("-")[0]
        lowest = min((point["rmse"] for point in system["points"]), default=None)
        if lowest is not None and (name not in chosen or lowest < chosen[name][0]):
            chosen[name] = (lowest, system)
    return {name: system for name, (_, system) in chosen.items()}


def _curve(size, systems, about):
    figure, axes = plt.subplots(figsize=(8.6, 5.0))
    ends = []
    for name, system in systems.items():
        points = sorted(system["points"], key=lambda point: point["seconds"])
        seconds, rmse = [p["seconds"] for p in points], [p["rmse"] for p in points]
        ours = name in _OURS
        colour = _OURS.get(name) or _PEERS.get(name, "#444444")
        axes.plot(
            seconds,
            rmse,
            color=colour,
            linewidth=2.6 if ours else 1.5,
            marker="o",
            markersize=4.5 if ours else 3,
            zorder=3 if ours else 2,
        )
        ends.append([rmse[-1], seconds[-1], system["label"], colour, ours])
    _limits(axes, systems)
    _name_ends(axes, ends)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("seconds of training (logarithmic)")
    axes.set_ylabel("RMSE on the held-out ratings")
    axes.set_title(
        f"{size[:-1]} {'million' if size.endswith('m') else 'thousand'} ratings, rank 32",
        loc="left",
        weight="bold",
        pad=24,
    )
    axes.text(
        0,
        1.03,
        f"lower and further left is better · {about['machine']}",
        transform=axes.transAxes,
        fontsize=8.5,
        color="#666666",
    )
    _quiet(axes)
    return figure


def _limits(axes, systems):
    """First sweeps are far off and would flatten the rest: cut them off above."""
    rmse = [point["rmse"] for system in systems.values() for point in system["points"]]
    best = [min(point["rmse"] for point in system["points"]) for system in systems.values()]
    low, high = min(rmse), min(max(rmse), max(best) + 0.6 * (max(best) - min(best)) + 0.01)
    axes.set_ylim(low - 0.06 * (high - low), high)


def _name_ends(axes, ends):
    """Write each name at its line's end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap, previous = 0.052 * (high - low), -1e9
    for rmse, seconds, label, colour, ours in sorted(ends):
        at = max(min(rmse, high), previous + gap)
        previous = at
        axes.annotate(
            label,
            (seconds, min(rmse, high)),
            xytext=(1.02, at),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            va="center",
            weight="bold" if ours else "normal",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.5},
            annotation_clip=False,
        )


def _folds(about):
    """Mean RMSE per system, the folds as faint dots."""
    measured = {
        key: system
        for key, system in about["systems"].items()
        if system["fits"] and not system["failed"]
    }
    means = {
        key: sum(fit["rmse"] for fit in system["fits"]) / len(system["fits"])
        for key, system in measured.items()
    }
    order = sorted(means, key=means.get, reverse=True)
    figure, axes = plt.subplots(figsize=(8.6, 0.36 * len(order) + 1.2))
    for row, key in enumerate(order):
        ours = measured[key]["label"].startswith("ours")
        colour = _OURS["bayes"] if ours else "#6B6B6B"
        axes.scatter(
            [fit["rmse"] for fit in measured[key]["fits"]],
            [row] * len(measured[key]["fits"]),
            s=14,
            color=colour,
            alpha=0.25,
            linewidth=0,
        )
        axes.scatter([means[key]], [row], s=52, color=colour, zorder=3)
        axes.annotate(
            f"{means[key]:.4f}",
            (means[key], row),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
        )
    axes.set_yticks(range(len(order)), [measured[key]["label"] for key in order])
    for text, key in zip(axes.get_yticklabels(), order, strict=True):
        text.set_weight("bold" if measured[key]["label"].startswith("ours") else "normal")
    axes.set_xlabel(
        "RMSE on the published folds u1..u5 (large: the mean; small: each fold and seed)"
    )
    axes.set_title("MovieLens 100K", loc="left", weight="bold")
    axes.margins(y=0.08)
    _quiet(axes)
    return figure


def _quiet(axes):
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
