"""What is measured and what the gate says of it: metrics, figures and rules, each defined once."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mf_core.records import EvalReport


@dataclass(frozen=True)
class Metric:
    """One kind of figure.

    Attributes:
        name: how it is called in code; in `mf.evaluations` with the cutoff, where it has one.
        words: what it is called for people.
        better: which values are better.
        at_cutoff: whether it looks at the first N places of a list only.
    """

    name: str
    words: str
    better: Literal["lower", "higher", "neither"]
    at_cutoff: bool = False

    def stored(self, cutoff: int) -> str:
        """Return its name in `mf.evaluations`, such as `ndcg_at_10`."""
        return f"{self.name}_at_{cutoff}" if self.at_cutoff else self.name

    def stored_loss(self, cutoff: int) -> str:
        """Return the name of a loss in it against a rival, such as `ndcg_at_10_loss`."""
        return f"{self.stored(cutoff)}_loss"

    def title(self, cutoff: int) -> str:
        """Return its name for people, such as `NDCG@10`."""
        return f"{self.words}@{cutoff}" if self.at_cutoff else self.words


RMSE = Metric("rmse", "test RMSE", "lower")
MAE = Metric("mae", "test MAE", "lower")
AVERAGE_ERROR = Metric("average_error", "sum of squared errors / 2n", "lower")
MEAN_SD = Metric("mean_sd", "mean predicted standard deviation", "neither")
INTERVAL_COVERAGES = {
    percent: Metric(
        f"interval_coverage_{percent}", f"ratings within their {percent}% interval", "neither"
    )
    for percent in (50, 80, 90, 95)
}
INTERVAL_REACHES = {
    percent: Metric(
        f"interval_reach_{percent}",
        f"standard deviations either side that hold {percent}% of the ratings",
        "neither",
    )
    for percent in INTERVAL_COVERAGES
}
NDCG = Metric("ndcg", "NDCG", "higher", at_cutoff=True)
RECALL = Metric("recall", "recall", "higher", at_cutoff=True)
MAP = Metric("map", "MAP", "higher", at_cutoff=True)
HIT_RATE = Metric("hit_rate", "hit rate", "higher", at_cutoff=True)
COVERAGE = Metric("coverage", "coverage of the catalogue", "higher", at_cutoff=True)
NOVELTY = Metric("novelty", "novelty in bits", "higher", at_cutoff=True)
GINI = Metric("gini", "Gini index of the items shown", "lower", at_cutoff=True)
OVERLAP = Metric("overlap", "overlap of two users' lists", "lower", at_cutoff=True)

RATING_METRICS = (RMSE, MAE, AVERAGE_ERROR)
LIST_METRICS = (NDCG, RECALL, MAP, HIT_RATE)
SPREAD_METRICS = (COVERAGE, NOVELTY, GINI, OVERLAP)
DEVIATION_METRICS = (MEAN_SD, *INTERVAL_COVERAGES.values(), *INTERVAL_REACHES.values())
METRICS = (*RATING_METRICS, *DEVIATION_METRICS, *LIST_METRICS, *SPREAD_METRICS)


@dataclass(frozen=True)
class Figure:
    """One measured figure, as it stands in `mf.evaluations`.

    `low` and `high` are the ends of its 95% interval, None where none is known; `n` counts the
    ratings or users behind it.
    """

    subject: str
    head: str
    metric: str
    slice: str
    value: float
    low: float | None
    high: float | None
    n: int


class Figures:
    """Looks figures up; a missing one is NaN, so that every comparison with it fails."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        """`figures` are those of one candidate."""
        self._by_key = {(f.subject, f.metric, f.slice): f for f in figures}

    def value(self, subject: str, metric: str, name: str = "all") -> float:
        """Return the figure, or NaN."""
        figure = self._by_key.get((subject, metric, name))
        return math.nan if figure is None else figure.value

    def low(self, subject: str, metric: str, name: str = "all") -> float:
        """Return the lower end of its interval, or NaN."""
        figure = self._by_key.get((subject, metric, name))
        return math.nan if figure is None or figure.low is None else figure.low

    def high(self, subject: str, metric: str, name: str = "all") -> float:
        """Return the upper end of its interval, or NaN."""
        figure = self._by_key.get((subject, metric, name))
        return math.nan if figure is None or figure.high is None else figure.high

    def has(self, subject: str, metric: str, name: str = "all") -> bool:
        """Say whether it was measured at all."""
        return (subject, metric, name) in self._by_key

    def n(self, subject: str, metric: str, name: str = "all") -> int:
        """Return the number of ratings or users behind it, or 0."""
        figure = self._by_key.get((subject, metric, name))
        return 0 if figure is None else figure.n

    def find(self, subject: str, metric: str) -> float | None:
        """Return the figure, or None where it was not measured."""
        return self.value(subject, metric) if self.has(subject, metric) else None


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: its name, its outcome, a sentence, and the figure with its limit.

    `warning`: it lets the candidate pass, but says something that a person should read.
    """

    rule: str
    passed: bool
    text: str
    value: float | None
    limit: float | None
    warning: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as it stands in `mf.gate_decisions.reasons`; JSON has no NaN."""

        def finite(value: Any) -> Any:
            """Return the value, None for a number that JSON does not know."""
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {name: finite(value) for name, value in asdict(self).items()}

    def line(self) -> str:
        """Return the outcome in one line, such as `NO  test RMSE 0.941 exceeds the limit 0.900`."""
        return f"{mark_of(self.passed, self.warning)}  {self.text}"


def mark_of(passed: bool, warning: bool) -> str:
    """Return how a rule came out, in two characters: `ok`, `!!` (a warning) or `NO`."""
    if not passed:
        return "NO"
    return "!!" if warning else "ok"


def headline(
    model_version: int, champion_version: int | None, measured: Sequence[Figure], cutoff: int
) -> EvalReport:
    """Return a candidate's headline figures.

    None where no head predicts ratings, NaN where a figure of the lists is missing.
    """
    figures = Figures(measured)
    ndcg = NDCG.stored(cutoff)
    return EvalReport(
        model_version=model_version,
        champion_version=champion_version,
        n_test=figures.n("candidate", RMSE.name),
        rmse=figures.find("candidate", RMSE.name),
        mae=figures.find("candidate", MAE.name),
        average_error=figures.find("candidate", AVERAGE_ERROR.name),
        baseline_rmse=figures.find("biases", RMSE.name),
        ndcg=figures.value("candidate", ndcg),
        popularity_ndcg=figures.value("popularity", ndcg),
        champion_rmse=figures.find("champion", RMSE.name),
        champion_ndcg=figures.find("champion", ndcg),
        coverage=figures.find("candidate", COVERAGE.stored(cutoff)),
        cutoff=cutoff,
    )
