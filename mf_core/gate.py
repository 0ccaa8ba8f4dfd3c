"""The gate: measured figures in, a decision with its rules in words out. Fail-closed: a missing or non-finite figure refuses."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mf_core.config import Config
from mf_core.evaluate import Figure


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: its name, whether it held, the sentence for people, and the figure with its limit."""

    rule: str
    passed: bool
    text: str
    value: float | None
    limit: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the rule as it stands in `mf.gate_decisions.reasons` (JSON has no NaN)."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in asdict(self).items()
        }


class Figures:
    """Looks figures up; a missing one is NaN, so that every comparison with it fails."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._by_key = {(f.subject, f.metric, f.slice): f for f in figures}

    def value(self, subject: str, metric: str, name: str = "all") -> float:
        """The figure, or NaN."""
        figure = self._by_key.get((subject, metric, name))
        return math.nan if figure is None else figure.value

    def high(self, subject: str, metric: str, name: str = "all") -> float:
        """The upper end of its interval, or NaN."""
        figure = self._by_key.get((subject, metric, name))
        return math.nan if figure is None or figure.high is None else figure.high

    def has(self, subject: str, metric: str, name: str) -> bool:
        """Whether it was measured at all."""
        return (subject, metric, name) in self._by_key

    def n(self, subject: str, metric: str, name: str = "all") -> int:
        """The number of ratings or users behind it, or 0."""
        figure = self._by_key.get((subject, metric, name))
        return 0 if figure is None else figure.n


def judge(
    config: Config, figures: Sequence[Figure], champion_version: int | None, recent_best: bool
) -> list[Rule]:
    """Return every rule with its outcome; the candidate is approved if all of them passed.

    Args:
        config: settings; section `gate` holds the limits.
        figures: what `evaluate` measured.
        champion_version: the live version, None before the first publication.
        recent_best: whether any version went live in the last `gate.recent_days` days.
    """
    look_up = Figures(figures)
    rules = [*_enough_to_judge(config, look_up), *_absolute(config, look_up)]
    if champion_version is not None:
        rules += _non_inferior(
            config, look_up, "champion", f"the champion (version {champion_version})"
        )
    if recent_best:
        rules += _non_inferior(
            config, look_up, "recent_best", f"the best of the last {config.gate.recent_days} days"
        )
    return rules


def rmse_ceiling(config: Config) -> float:
    """Return the ceiling of the test RMSE, in rating units."""
    if config.gate.max_rmse is not None:
        return config.gate.max_rmse
    return (config.data.scale_high - config.data.scale_low) / 4


def _enough_to_judge(config: Config, figures: Figures) -> Iterator[Rule]:
    ndcg = f"ndcg_at_{config.gate.cutoff}"
    n_ratings, n_users = figures.n("candidate", "rmse"), figures.n("candidate", ndcg)
    yield _at_least("enough_test_ratings", "test ratings", n_ratings, config.gate.min_test_ratings)
    yield _at_least(
        "enough_test_users",
        "users with a relevant test rating",
        n_users,
        config.gate.min_test_users,
    )
    missing = [
        metric
        for metric in ("rmse", "mae", "average_error", ndcg)
        if not math.isfinite(figures.value("candidate", metric))
    ]
    text = (
        f"figures missing or not finite: {', '.join(missing)}"
        if missing
        else "all figures are there and finite"
    )
    yield Rule("figures_complete", not missing, text, float(len(missing)), 0.0)


def _absolute(config: Config, figures: Figures) -> Iterator[Rule]:
    rmse, ceiling = figures.value("candidate", "rmse"), rmse_ceiling(config)
    yield _below("rmse_ceiling", "test RMSE", rmse, ceiling, "the limit")
    biases = figures.value("biases", "rmse")
    if config.gate.require_better_than_biases:
        yield _below(
            "better_than_biases", "test RMSE", rmse, biases, "the biases-only baseline", strict=True
        )
    else:
        yield Rule(
            "better_than_biases",
            True,
            f"switched off; test RMSE {rmse:.4f}, biases only {biases:.4f}",
            rmse,
            biases,
        )
    metric = f"ndcg_at_{config.gate.cutoff}"
    ndcg, popular = figures.value("candidate", metric), figures.value("popularity", metric)
    relation = "is not below" if ndcg >= popular else "is below"
    lists = (
        f"NDCG@{config.gate.cutoff} of the lists (ordered by the {config.recommend.rank_by} head)"
    )
    text = f"{lists} {ndcg:.4f} {relation} the popularity list's {popular:.4f}"
    if config.gate.require_popularity:
        passed = ndcg >= popular
        advice = ""
        if not passed and config.recommend.rank_by == "rating":
            advice = "; with rank_by rating, switch this rule off by name (gate.require_popularity) or order by the ranking head"
        yield Rule("not_below_popularity", passed, text + advice, ndcg, popular)
    else:
        yield Rule("not_below_popularity", True, f"switched off; {text}", ndcg, popular)


def _non_inferior(config: Config, figures: Figures, subject: str, name: str) -> Iterator[Rule]:
    cutoff = config.gate.cutoff
    losses = (
        ("rmse", "rmse_loss", "test RMSE", config.gate.max_rmse_loss),
        ("ndcg", f"ndcg_at_{cutoff}_loss", f"NDCG@{cutoff}", config.gate.max_ndcg_loss),
    )
    for short, metric, words, limit in losses:
        for rows, in_words in (("all", "all common rows"), ("warm_both", "rows warm for both")):
            loss, bound, n = (
                look(subject, metric, rows) for look in (figures.value, figures.high, figures.n)
            )
            passed = bound <= limit
            what = f"loss in {words} against {name} on {in_words}"
            if math.isfinite(bound):
                relation = "is" if passed else "is not"
                text = f"{what} {loss:+.4f} (n={n:,}); its upper 95% bound {bound:+.4f} {relation} within the margin {limit:.4f}"
            elif rows == "warm_both" and n == 0 and figures.has(subject, metric, rows):
                # Its ids are others, as after a change of the source; all common rows are compared all the same.
                passed, text = True, f"{what}: there is none, so nothing to compare"
            else:
                text = f"{what} is unknown: artifacts are missing or damaged, or no row is left"
            yield Rule(f"{short}_against_{subject}_{rows}", passed, text, bound, limit)


def _at_least(rule: str, what: str, value: int, limit: int) -> Rule:
    return Rule(
        rule, value >= limit, f"{value:,} {what}, {limit:,} needed", float(value), float(limit)
    )


def _below(
    rule: str, what: str, value: float, limit: float, limit_name: str, *, strict: bool = False
) -> Rule:
    passed = value < limit if strict else value <= limit
    relation = (
        ("is below" if strict else "is within")
        if passed
        else ("is not below" if strict else "exceeds")
    )
    return Rule(
        rule, passed, f"{what} {value:.4f} {relation} {limit_name} {limit:.4f}", value, limit
    )
