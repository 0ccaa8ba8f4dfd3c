"""The gate: measured figures in, a decision with its rules in words out.

Fail-closed: a missing or non-finite figure refuses. A rule that only warns lets the candidate pass,
and says what a person should read.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NoReturn

from mf_core.config import Config
from mf_core.errors import GateError
from mf_core.figures import (
    COVERAGE,
    NDCG,
    OVERLAP,
    RATING_METRICS,
    RMSE,
    Figure,
    Figures,
    Metric,
    Rule,
)

_ALIKE = 0.5
"""Lists of which two share so many of their items are nearly one list for everybody."""

# Of the same biases, fitted in other units: float32 tells them apart.
_SAME_RMSE = 1e-6
# Of the error of the mean everywhere; a hundredth of a star on MovieLens.
_MARGIN = 0.01


def judge(
    config: Config,
    figures: Sequence[Figure],
    champion_version: int | None,
    recent_best: bool,
) -> list[Rule]:
    """Return every rule with its outcome; the candidate is approved if all of them passed.

    Args:
        config: settings; section `gate` holds the limits.
        figures: what `evaluate` measured.
        champion_version: the live version, None before the first publication.
        recent_best: whether any version went live in the last `gate.recent_days` days.
    """
    look_up = Figures(figures)
    rates = "rating" in config.heads()
    rules = [
        *_enough_to_judge(config, look_up),
        *(_rating_rules(config, look_up) if rates else _no_rating_rules(config)),
        _not_below_popularity(config, look_up),
        _not_below_item_item(config, look_up),
        _lists_differ(config, look_up),
    ]
    if champion_version is not None:
        name = f"the champion (version {champion_version})"
        rules += _non_inferior(config, look_up, "champion", name)
    if recent_best:
        name = f"the best of the last {config.gate.recent_days} days"
        rules += _non_inferior(config, look_up, "recent_best", name)
    return rules


def refit_error(config: Config, *, rmse_before: float, rmse_after: float) -> Rule:
    """Return the rule for how well a refit, which nobody has tested, predicts all ratings.

    `gate.max_refit_error_ratio` is the limit, against the RMSE of the evaluated model on the same
    rows.
    """
    limit = config.gate.max_refit_error_ratio * rmse_before + _rounding(config)
    return Rule(
        rule="refit_error",
        passed=rmse_after <= limit,
        text=f"RMSE of the refit on all ratings {rmse_after:.4f}, at most {limit:.4f} allowed "
        f"(evaluated model {rmse_before:.4f})",
        value=rmse_after,
        limit=limit,
    )


def refit_overlap(config: Config, overlap: float) -> Rule:
    """Return the rule for the share of the refit's list places that the evaluated lists hold too.

    `gate.min_refit_overlap` is the limit.
    """
    least = config.gate.min_refit_overlap
    return Rule(
        rule="refit_overlap",
        passed=overlap >= least,
        text=f"the refit's lists share {overlap:.0%} of their items with the evaluated ones, "
        f"{least:.0%} needed",
        value=overlap,
        limit=least,
    )


def refuse(model_version: int, rules: Sequence[Rule]) -> NoReturn:
    """Raise the GateError that names every rule that failed."""
    broken = "; ".join(rule.text for rule in rules if not rule.passed)
    raise GateError(
        f"model version {model_version} is refused: {broken}. "
        "Recommendations are unchanged; see docs/runbook.md#gate."
    )


def rmse_ceiling(config: Config, figures: Figures) -> float:
    """Return the ceiling of the test RMSE, in rating units.

    Whoever predicts the mean everywhere is off by the spread of the ratings, which is a measure on
    every scale: thumbs, stars, and counts with a long tail. NaN where it was not measured.
    """
    if config.gate.max_rmse is not None:
        return config.gate.max_rmse
    return figures.value("global_mean", RMSE.name) + _rounding(config)


def rmse_margin(config: Config, figures: Figures) -> float:
    """Return by how much the RMSE may exceed a rival's, in rating units; NaN: not measured."""
    if config.gate.max_rmse_loss is not None:
        return config.gate.max_rmse_loss
    return _MARGIN * figures.value("global_mean", RMSE.name) + _rounding(config)


def _rounding(config: Config) -> float:
    """Return what float32 may make of an error of 0, in rating units."""
    return _SAME_RMSE * (config.data.scale_high - config.data.scale_low)


def _enough_to_judge(config: Config, figures: Figures) -> Iterator[Rule]:
    ndcg = NDCG.stored(config.gate.cutoff)
    n_users = figures.n("candidate", ndcg)
    needed = [ndcg]
    if "rating" in config.heads():
        n_ratings = figures.n("candidate", RMSE.name)
        least = config.gate.min_test_ratings
        yield _at_least("enough_test_ratings", "test ratings", n_ratings, least)
        needed = [*(metric.name for metric in RATING_METRICS), ndcg]
    yield _at_least(
        "enough_test_users",
        f"users with a relevant test {config.data.kind.removesuffix('s')}",
        n_users,
        config.gate.min_test_users,
    )

    missing = [name for name in needed if not math.isfinite(figures.value("candidate", name))]
    text = "all figures are there and finite"
    if missing:
        text = f"figures missing or not finite: {', '.join(missing)}"
    yield Rule("figures_complete", not missing, text, value=float(len(missing)), limit=0.0)


def _no_rating_rules(config: Config) -> Iterator[Rule]:
    """Say that only lists are judged, so that nobody looks for the other rules."""
    text = f"the source holds {config.data.kind}: no ratings are predicted, only lists are judged"
    yield Rule("lists_only", True, text, value=None, limit=None)


def _rating_rules(config: Config, figures: Figures) -> Iterator[Rule]:
    rmse = figures.value("candidate", RMSE.name)
    ceiling = rmse_ceiling(config, figures)
    within = rmse <= ceiling
    relation = "is within" if within else "exceeds"
    text = f"{RMSE.words} {rmse:.4f} {relation} the limit {ceiling:.4f}"
    yield Rule("rmse_ceiling", within, text, value=rmse, limit=ceiling)

    biases = figures.value("biases", RMSE.name)
    if not config.gate.require_better_than_biases:
        text = f"switched off; {RMSE.words} {rmse:.4f}, biases only {biases:.4f}"
        yield Rule("better_than_biases", True, text, value=rmse, limit=biases)
        return
    # The run may have found that nothing beats biases: then they are what it publishes.
    same = math.isclose(rmse, biases, rel_tol=_SAME_RMSE, abs_tol=_rounding(config))
    better = same or rmse < biases
    relation = "is that of" if same else "is below" if better else "is not below"
    text = f"{RMSE.words} {rmse:.4f} {relation} the biases-only baseline {biases:.4f}"
    yield Rule("better_than_biases", better, text, value=rmse, limit=biases)


def _not_below_popularity(config: Config, figures: Figures) -> Rule:
    metric = NDCG.stored(config.gate.cutoff)
    ndcg = figures.value("candidate", metric)
    popular = figures.value("popularity", metric)
    passed = ndcg >= popular
    relation = "is not below" if passed else "is below"
    head = config.recommend.rank_by
    text = (
        f"{NDCG.title(config.gate.cutoff)} of the lists (ordered by the {head} head) {ndcg:.4f} "
        f"{relation} the popularity list's {popular:.4f}"
    )
    if not config.gate.require_popularity:
        return Rule(
            "not_below_popularity", True, f"switched off; {text}", value=ndcg, limit=popular
        )
    if not passed and head == "rating":
        text += (
            "; with rank_by rating, switch this rule off by name (gate.require_popularity) "
            "or order by the ranking head"
        )
    return Rule("not_below_popularity", passed, text, value=ndcg, limit=popular)


def _not_below_item_item(config: Config, figures: Figures) -> Rule:
    """Compare the lists with an item-item model's, by the bounds of the paired loss.

    Whether a loss refuses, or is only told, is a setting.
    """
    name = "not_below_item_item"
    wanted = config.gate.require_item_baseline
    title = NDCG.title(config.gate.cutoff)
    if wanted == "off":
        text = f"switched off; {title} was not compared with an item-item model's"
        return Rule(name, True, text, value=None, limit=0.0)

    theirs = figures.value("item_item", NDCG.stored(config.gate.cutoff))
    name_of_loss = NDCG.stored_loss(config.gate.cutoff)
    loss = figures.value("item_item", name_of_loss)
    least = figures.low("item_item", name_of_loss)
    most = figures.high("item_item", name_of_loss)
    measured = all(map(math.isfinite, (theirs, loss, least, most)))
    holds = measured and least <= 0
    relation = "is not below" if holds else "is below"
    text = (
        f"{title} of the lists {relation} {theirs:.4f} of an item-item model on the same ratings "
        f"(loss {loss:+.4f}, its 95% bounds {least:+.4f} and {most:+.4f}, "
        f"n={figures.n('item_item', name_of_loss):,})"
    )
    if not measured:
        text = "an item-item model on the same ratings was not measured"
    passed = holds or wanted == "warn"
    return Rule(name, passed, text, value=least, limit=0.0, warning=passed and not holds)


def _lists_differ(config: Config, figures: Figures) -> Rule:
    """Warn where nearly everybody gets the same list: popularity alone could make it."""
    cutoff = config.gate.cutoff
    overlap = figures.value("candidate", OVERLAP.stored(cutoff))
    coverage = figures.value("candidate", COVERAGE.stored(cutoff))
    differ = overlap < _ALIKE and math.isfinite(coverage)
    text = (
        f"two users' lists share {overlap:.0%} of their items, and all lists together show "
        f"{coverage:.1%} of the catalogue"
    )
    if overlap >= _ALIKE:
        text = f"the lists are nearly one list for everybody: {text}"
    if math.isnan(overlap) or math.isnan(coverage):
        text = "how much the lists differ was not measured"
    return Rule("lists_differ", True, text, value=overlap, limit=_ALIKE, warning=not differ)


def _non_inferior(config: Config, figures: Figures, subject: str, name: str) -> Iterator[Rule]:
    margins = [(NDCG, config.gate.max_ndcg_loss)]
    if "rating" in config.heads():
        margins.insert(0, (RMSE, rmse_margin(config, figures)))
    slices = (("all", "all common rows"), ("warm_both", "rows warm for both"))
    for metric, margin in margins:
        title = metric.title(config.gate.cutoff)
        for rows, rows_in_words in slices:
            loss = _Loss(config, figures, subject, metric=metric, rows=rows)
            passed, text = loss.judged(margin)
            yield Rule(
                rule=f"{metric.name}_against_{subject}_{rows}",
                passed=passed,
                text=f"loss in {title} against {name} on {rows_in_words}{text}",
                value=loss.bound,
                limit=margin,
            )


class _Loss:
    """A candidate's loss in one metric against one rival on some rows."""

    def __init__(
        self, config: Config, figures: Figures, subject: str, metric: Metric, rows: str
    ) -> None:
        stored = metric.stored_loss(config.gate.cutoff)
        self.metric = metric
        self.value = figures.value(subject, stored, rows)
        self.bound = figures.high(subject, stored, rows)
        self.n = figures.n(subject, stored, rows)
        self.no_such_rows = rows == "warm_both" and figures.has(subject, stored, rows)

    def judged(self, margin: float) -> tuple[bool, str]:
        """Return whether the loss is within the margin, and the end of the sentence."""
        if math.isfinite(self.bound):
            passed = self.bound <= margin
            relation = "is" if passed else "is not"
            return passed, (
                f" {self.value:+.4f} (n={self.n:,}); its upper 95% bound {self.bound:+.4f} "
                f"{relation} within the margin {margin:.4f}"
            )
        if self.no_such_rows and self.n == 0:
            # Its ids are others, as after a change of the source; all common rows are compared.
            return True, ": there is none, so nothing to compare"
        said = "artifacts are missing or damaged, or no row is left"
        if self.metric == RMSE:
            said = f"it predicts no ratings, {said}"
        return False, f" is unknown: {said}"


def _at_least(rule: str, what: str, value: int, limit: int) -> Rule:
    return Rule(
        rule=rule,
        passed=value >= limit,
        text=f"{value:,} {what}, {limit:,} needed",
        value=float(value),
        limit=float(limit),
    )
