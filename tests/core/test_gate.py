"""Each rule of the gate, with a candidate made worse on purpose."""

import math
from dataclasses import replace

import pytest

from mf_core.config import Config, make_config
from mf_core.figures import Figure, Rule
from mf_core.judging.gate import judge, rmse_ceiling

NDCG = "ndcg_at_10"


def figure(
    subject: str,
    metric: str,
    value: float,
    *,
    name: str = "all",
    high: float | None = None,
    n: int = 1000,
) -> Figure:
    return Figure(
        subject,
        "ranking" if metric.startswith("ndcg") else "rating",
        metric,
        name,
        value,
        None,
        high,
        n,
    )


def good_figures() -> list[Figure]:
    """A candidate that passes every rule."""
    return [
        figure("candidate", "rmse", 0.92),
        figure("candidate", "mae", 0.73),
        figure("candidate", "average_error", 0.42),
        figure("candidate", NDCG, 0.40, n=900),
        figure("biases", "rmse", 0.94),
        figure("popularity", NDCG, 0.20, n=900),
        *(
            figure(subject, metric, 0.0, name=name, high=0.005)
            for subject in ("champion", "recent_best")
            for metric in ("rmse_loss", f"{NDCG}_loss")
            for name in ("all", "warm_both")
        ),
    ]


def broken_rules(figures: list[Figure], config: Config | None = None) -> list[Rule]:
    rules = judge(config or Config(), figures, champion_version=7, recent_best=True)
    return [rule for rule in rules if not rule.passed]


def changed(subject: str, metric: str, name: str = "all", **values: float) -> list[Figure]:
    return [
        replace(f, **values) if (f.subject, f.metric, f.slice) == (subject, metric, name) else f
        for f in good_figures()
    ]


def worse_than_the_ceiling() -> list[Figure]:
    """RMSE above the ceiling, and still below an even worse baseline."""
    values = {("candidate", "rmse"): 1.01, ("biases", "rmse"): 1.2}
    return [replace(f, value=values.get((f.subject, f.metric), f.value)) for f in good_figures()]


def test_a_good_candidate_passes_every_rule() -> None:
    assert broken_rules(good_figures()) == []


@pytest.mark.parametrize(
    ("figures", "rule", "words"),
    [
        (worse_than_the_ceiling(), "rmse_ceiling", "test RMSE 1.0100 exceeds the limit 1.0000"),
        (
            changed("biases", "rmse", value=0.92),
            "better_than_biases",
            "test RMSE 0.9200 is not below the biases-only baseline 0.9200",
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

    assert broken_rules(figures)


@pytest.mark.parametrize("position", range(len(good_figures())))
def test_gate_refuses_when_any_figure_is_not_a_number(position: int) -> None:
    figures = good_figures()
    figures[position] = replace(figures[position], value=math.nan, high=math.nan)

    assert broken_rules(figures)


def test_an_empty_evaluation_is_refused() -> None:
    assert [rule for rule in judge(Config(), [], None, recent_best=False) if not rule.passed]


def test_without_a_champion_only_the_absolute_rules_hold() -> None:
    rules = judge(Config(), good_figures()[:6], champion_version=None, recent_best=False)
    assert all(rule.passed for rule in rules)
    assert not any("champion" in rule.rule for rule in rules)


def test_a_rule_switched_off_says_so() -> None:
    config = make_config(
        {"gate.require_popularity": False, "gate.require_better_than_biases": False}
    )
    figures = [f for f in good_figures() if f.subject not in ("biases", "popularity")]
    figures += [figure("biases", "rmse", 0.5), figure("popularity", NDCG, 0.9)]

    assert broken_rules(figures, config) == []

    texts = [r.text for r in judge(config, figures, None, recent_best=False)]
    assert sum(text.startswith("switched off") for text in texts) == 2


def test_rank_by_rating_is_told_which_rule_to_switch_off() -> None:
    config = make_config({"recommend.rank_by": "rating"})
    [broken] = broken_rules(changed("candidate", NDCG, value=0.1), config)

    assert "gate.require_popularity" in broken.text


def test_the_ceiling_follows_the_rating_scale() -> None:
    assert rmse_ceiling(Config()) == 1.0
    assert (
        rmse_ceiling(
            make_config({"data.scale_low": 1, "data.scale_high": 101, "data.relevant_from": 60})
        )
        == 25
    )
    assert rmse_ceiling(make_config({"gate.max_rmse": 0.9})) == 0.9


def test_a_rule_as_json_has_no_nan() -> None:
    assert Rule("r", False, "t", math.nan, math.inf).as_dict() == {
        "rule": "r",
        "passed": False,
        "text": "t",
        "value": None,
        "limit": None,
    }


def test_a_rival_that_shares_no_id_is_compared_on_all_rows_only() -> None:
    figures = [
        replace(f, value=math.nan, high=math.nan, n=0) if f.slice == "warm_both" else f
        for f in good_figures()
    ]

    assert broken_rules(figures) == []
    assert any(
        text.endswith("nothing to compare")
        for text in (r.text for r in judge(Config(), figures, 7, recent_best=True))
    )

    without_rows = [
        replace(f, value=math.nan, high=math.nan, n=0) if f.metric == "rmse_loss" else f
        for f in good_figures()
    ]

    assert {rule.rule for rule in broken_rules(without_rows)} == {
        "rmse_against_champion_all",
        "rmse_against_recent_best_all",
    }
