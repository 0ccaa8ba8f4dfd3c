"""Each rule of the gate, with a candidate made worse on purpose."""

import math
from dataclasses import replace
from typing import Any

import pytest

from mf_core.config import Config, make_config
from mf_core.figures import Figure, Figures, Rule
from mf_core.judging.gate import judge, rmse_ceiling, rmse_margin

NDCG = "ndcg_at_10"


def figure(
    subject: str,
    metric: str,
    value: float,
    *,
    name: str = "all",
    low: float | None = None,
    high: float | None = None,
    n: int = 1000,
) -> Figure:
    """Return a figure of slice `name`."""
    head = "ranking" if metric.startswith("ndcg") else "rating"
    return Figure(
        subject=subject,
        head=head,
        metric=metric,
        slice=name,
        value=value,
        low=low,
        high=high,
        n=n,
    )


def good_figures() -> list[Figure]:
    """A candidate that passes every rule."""
    figures = [
        figure("candidate", "rmse", 0.92),
        figure("candidate", "mae", 0.73),
        figure("candidate", "average_error", 0.42),
        figure("candidate", NDCG, 0.40, n=900),
        figure("biases", "rmse", 0.94),
        figure("global_mean", "rmse", 1.0),
        figure("popularity", NDCG, 0.20, n=900),
        figure("item_item", NDCG, 0.39, n=900),
        figure("item_item", f"{NDCG}_loss", -0.01, low=-0.02, high=0.0, n=900),
        figure("candidate", "overlap_at_10", 0.2, n=900),
        figure("candidate", "coverage_at_10", 0.4, n=900),
    ]

    for subject in ("champion", "recent_best"):
        for metric in ("rmse_loss", f"{NDCG}_loss"):
            for name in ("all", "warm_both"):
                loss = figure(subject, metric, 0.0, name=name, high=0.005)
                figures.append(loss)

    return figures


def broken_rules(figures: list[Figure], config: Config | None = None) -> list[Rule]:
    """Return the rules that do not pass."""
    rules = judge(config or Config(), figures, champion_version=7, recent_best=True)
    return [rule for rule in rules if not rule.passed]


def objections(figures: list[Figure]) -> list[Rule]:
    """Return the rules that do not pass, or that warn, where item-item lists are a must."""
    config = make_config({"gate.require_item_baseline": "refuse"})
    rules = judge(config, figures, champion_version=7, recent_best=True)
    return [rule for rule in rules if rule.warning or not rule.passed]


def changed(subject: str, metric: str, name: str = "all", **values: Any) -> list[Figure]:
    """Return the good figures with one of them changed."""
    key = (subject, metric, name)
    figures = []
    for good in good_figures():
        is_meant = (good.subject, good.metric, good.slice) == key
        figures.append(replace(good, **values) if is_meant else good)
    return figures


def without_rows(**where: str) -> list[Figure]:
    """Return the good figures, those whose fields equal `where` without any row to compare."""
    figures = []
    for good in good_figures():
        fields = vars(good)
        is_meant = all(fields[name] == value for name, value in where.items())
        empty = replace(good, value=math.nan, high=math.nan, n=0)
        figures.append(empty if is_meant else good)

    return figures


def worse_than_the_ceiling() -> list[Figure]:
    """RMSE above the ceiling, and still below an even worse baseline."""
    values = {
        ("candidate", "rmse"): 1.01,
        ("biases", "rmse"): 1.2,
    }
    figures = []
    for good in good_figures():
        value = values.get((good.subject, good.metric), good.value)
        figures.append(replace(good, value=value))
    return figures


def test_a_good_candidate_passes_every_rule() -> None:
    assert broken_rules(good_figures()) == []


@pytest.mark.parametrize(
    ("figures", "rule", "words"),
    [
        (worse_than_the_ceiling(), "rmse_ceiling", "test RMSE 1.0100 exceeds the limit 1.0000"),
        (
            changed("biases", "rmse", value=0.9199),
            "better_than_biases",
            "test RMSE 0.9200 is not below the biases-only baseline 0.9199",
        ),
        (
            changed("popularity", NDCG, value=0.41),
            "not_below_popularity",
            "0.4000 is below the popularity list's 0.4100",
        ),
        (changed("candidate", "rmse", n=99), "enough_test_ratings", "99 test ratings, 100 needed"),
        (
            changed("candidate", NDCG, n=19),
            "enough_test_users",
            "19 users with a relevant test rating, 20 needed",
        ),
        (changed("candidate", "mae", value=math.nan), "figures_complete", "mae"),
        (
            changed("champion", "rmse_loss", high=0.011),
            "rmse_against_champion_all",
            "is not within the margin 0.0100",
        ),
        (
            changed("champion", "rmse_loss", "warm_both", high=0.011),
            "rmse_against_champion_warm_both",
            "rows warm for both",
        ),
        (
            changed("champion", f"{NDCG}_loss", high=0.021),
            "ndcg_against_champion_all",
            "is not within the margin 0.0200",
        ),
        (
            changed("champion", f"{NDCG}_loss", "warm_both", high=0.021),
            "ndcg_against_champion_warm_both",
            "champion (version 7)",
        ),
        (
            changed("recent_best", "rmse_loss", high=0.011),
            "rmse_against_recent_best_all",
            "best of the last 30 days",
        ),
        (
            changed("recent_best", f"{NDCG}_loss", high=0.021),
            "ndcg_against_recent_best_all",
            "best of the last 30 days",
        ),
    ],
)
def test_gate_refuses_a_candidate_that_breaks_one_rule(
    figures: list[Figure], rule: str, words: str
) -> None:
    [broken] = broken_rules(figures)
    assert broken.rule == rule
    assert words in broken.text


@pytest.mark.parametrize("position", range(len(good_figures())))
def test_gate_refuses_when_any_figure_is_missing(position: int) -> None:
    figures = good_figures()
    del figures[position]

    assert objections(figures)


@pytest.mark.parametrize("position", range(len(good_figures())))
def test_gate_refuses_when_any_figure_is_not_a_number(position: int) -> None:
    figures = good_figures()
    figures[position] = replace(figures[position], value=math.nan, low=math.nan, high=math.nan)

    assert objections(figures)


def test_an_empty_evaluation_is_refused() -> None:
    rules = judge(Config(), [], None, recent_best=False)
    broken = [rule for rule in rules if not rule.passed]

    assert broken


def test_without_a_champion_only_the_absolute_rules_hold() -> None:
    own_figures = good_figures()[:7]
    rules = judge(Config(), own_figures, champion_version=None, recent_best=False)

    assert all(rule.passed for rule in rules)
    assert not any("champion" in rule.rule for rule in rules)


def test_biases_that_a_run_has_chosen_are_no_worse_than_the_baseline_that_they_are() -> None:
    figures = changed("biases", "rmse", value=0.92 * (1 + 1e-8))
    rules = judge(Config(), figures, champion_version=7, recent_best=True)
    [rule] = [rule for rule in rules if rule.rule == "better_than_biases"]

    assert rule.passed
    assert rule.text == "test RMSE 0.9200 is that of the biases-only baseline 0.9200"


def test_a_rule_switched_off_says_so() -> None:
    config = make_config(
        {
            "gate.require_popularity": False,
            "gate.require_better_than_biases": False,
        }
    )
    baselines = ("biases", "popularity")
    figures = [good for good in good_figures() if good.subject not in baselines]
    figures.append(figure("biases", "rmse", 0.5))
    figures.append(figure("popularity", NDCG, 0.9))

    assert broken_rules(figures, config) == []

    rules = judge(config, figures, None, recent_best=False)
    switched_off = [rule for rule in rules if rule.text.startswith("switched off")]

    assert len(switched_off) == 2


def test_rank_by_rating_is_told_which_rule_to_switch_off() -> None:
    config = make_config({"recommend.rank_by": "rating"})
    figures = changed("candidate", NDCG, value=0.1)
    [broken] = broken_rules(figures, config)

    assert "gate.require_popularity" in broken.text


def test_ceiling_and_margin_follow_the_spread_of_the_ratings() -> None:
    thumbs = make_config({"data.scale_low": 0, "data.scale_high": 1, "data.relevant_from": 1})
    percent = make_config(
        {
            "data.scale_low": 1,
            "data.scale_high": 101,
            "data.relevant_from": 60,
        }
    )
    given = make_config({"gate.max_rmse": 0.9})

    for config, spread in ((Config(), 1.1), (percent, 21.0), (thumbs, 0.49)):
        figures = Figures([figure("global_mean", "rmse", spread)])
        assert rmse_ceiling(config, figures) == pytest.approx(spread, rel=1e-4)
        assert rmse_margin(config, figures) == pytest.approx(spread / 100, rel=1e-2)
        assert rmse_ceiling(given, figures) == 0.9


def test_where_all_ratings_are_equal_errors_of_rounding_pass() -> None:
    """The mean everywhere and the biases are right to the last bit there, a model nearly so."""
    values = {("candidate", "rmse"): 1e-7, ("biases", "rmse"): 0.0, ("global_mean", "rmse"): 0.0}
    figures = []
    for good in good_figures():
        value = values.get((good.subject, good.metric), good.value)
        tiny = good.metric == "rmse_loss"
        figures.append(replace(good, value=value, high=1e-7 if tiny else good.high))
    assert broken_rules(figures) == []

    worse = [replace(f, value=1e-3) if f.value == 1e-7 else f for f in figures]
    assert {rule.rule for rule in broken_rules(worse)} == {"rmse_ceiling", "better_than_biases"}


def test_a_rule_as_json_has_no_nan() -> None:
    rule = Rule("r", False, "t", math.nan, math.inf)

    assert rule.as_dict() == {
        "rule": "r",
        "passed": False,
        "text": "t",
        "value": None,
        "limit": None,
        "warning": False,
    }


def test_a_rival_that_shares_no_id_is_compared_on_all_rows_only() -> None:
    figures = without_rows(slice="warm_both")
    rules = judge(Config(), figures, 7, recent_best=True)

    assert broken_rules(figures) == []
    assert any(rule.text.endswith("nothing to compare") for rule in rules)

    # Where not a single row is left, there is no telling whether the candidate is worse.
    broken = broken_rules(without_rows(metric="rmse_loss"))
    assert {rule.rule for rule in broken} == {
        "rmse_against_champion_all",
        "rmse_against_recent_best_all",
    }


WORSE: dict[str, Any] = {"value": 0.02, "low": 0.01, "high": 0.03}


def named(figures: list[Figure], rule: str, **settings: Any) -> Rule:
    """Return one rule of a judgement."""
    rules = judge(make_config(settings), figures, champion_version=7, recent_best=True)
    [found] = [other for other in rules if other.rule == rule]
    return found


def test_lists_below_an_item_item_model_are_a_warning() -> None:
    worse = changed("item_item", f"{NDCG}_loss", **WORSE)
    rule = named(worse, "not_below_item_item")
    assert rule.passed
    assert rule.warning
    assert "is below 0.3900 of an item-item model" in rule.text
    assert "n=900" in rule.text
    assert rule.line().startswith("!!")
    # Who is worse, but not beyond chance, is not below it.
    unclear = changed("item_item", f"{NDCG}_loss", value=0.02, low=-0.01, high=0.05)
    assert not named(unclear, "not_below_item_item").warning


def test_lists_below_an_item_item_model_can_be_refused_or_left_uncompared() -> None:
    worse = changed("item_item", f"{NDCG}_loss", **WORSE)
    setting = "gate.require_item_baseline"
    assert not named(worse, "not_below_item_item", **{setting: "refuse"}).passed
    rule = named(worse, "not_below_item_item", **{setting: "off"})
    assert rule.passed
    assert not rule.warning
    assert "switched off" in rule.text


@pytest.mark.parametrize("wanted", ["warn", "refuse"])
def test_an_item_item_model_that_was_not_measured_is_told_or_refused(wanted: str) -> None:
    figures = [found for found in good_figures() if found.subject != "item_item"]
    rule = named(figures, "not_below_item_item", **{"gate.require_item_baseline": wanted})
    assert rule.passed == (wanted == "warn")
    assert rule.warning == (wanted == "warn")
    assert "was not measured" in rule.text


def test_one_list_for_everybody_is_a_warning_in_words() -> None:
    alike = changed("candidate", "overlap_at_10", value=0.93)
    rule = named(alike, "lists_differ")
    assert rule.passed
    assert rule.warning
    assert "one list for everybody" in rule.text
    assert "40.0% of the catalogue" in rule.text
    assert not named(good_figures(), "lists_differ").warning
    unknown = [found for found in good_figures() if not found.metric.startswith("overlap")]
    assert named(unknown, "lists_differ").warning
