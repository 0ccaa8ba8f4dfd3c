"""Events without ratings: what is relevant and learned, which heads there are, and the gate."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mf_core.backtest import backtest
from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, id_map, summed
from mf_core.data.relevance import is_relevant, targets
from mf_core.data.snapshot import Snapshot, sort_ratings
from mf_core.errors import ConfigError, TrainingError
from mf_core.figures import Figure, Rule, headline
from mf_core.judging.evaluate import evaluate
from mf_core.judging.gate import judge
from mf_core.models.baselines import relevant_counts
from mf_core.models.heads import Models, make_heads
from mf_core.solvers.fit import fit_ranking_head
from mf_core.solvers.preference import observations

EVENTS = make_config(
    {
        "data.kind": "events",
        "data.scale_low": -1e6,
        "data.scale_high": 1e6,
        "train.device": "cpu",
        "train.settings": "fixed",
        "ranking_head.n_factors": 8,
        "gate.bootstrap_samples": 100,
    }
)
WEIGHTS = np.array([-3, 0, 0.5, 1, 1, 2, 40, 1_000], np.float32)


def test_every_positive_weight_is_relevant_whatever_the_scale_says() -> None:
    assert is_relevant(EVENTS.data, WEIGHTS).tolist() == [False, False, *[True] * 6]


def test_targets_grow_with_the_weight_and_are_no_higher_than_0_for_what_is_disliked() -> None:
    for lowest in (0.0, 0.35, 1.0):
        aims = targets(EVENTS.data, WEIGHTS, lowest)
        assert (np.diff(aims) >= 0).all()
        assert aims[0] == aims[1] == 0
        assert (1 + lowest) / 2 < aims[2] <= 1 or lowest == 1
        assert aims[-1] == 1
        [against, *others] = targets(EVENTS.data, WEIGHTS, lowest, negative=-0.5)
        assert -0.5 <= against < -0.25 * (1 + lowest) or lowest == 1
        assert others == aims[1:].tolist()
        # In seconds or in minutes, they say the same.
        np.testing.assert_allclose(targets(EVENTS.data, 60 * WEIGHTS, lowest), aims, rtol=1e-5)


def test_equal_weights_all_aim_at_one() -> None:
    for weight in (1, 7):
        aims = targets(EVENTS.data, np.full(5, weight, np.float32), 0.0)
        np.testing.assert_array_equal(aims, np.ones(5))


def test_popularity_counts_pairs_and_not_how_often_they_come() -> None:
    item = np.array([0, 1, 1, 2], np.int32)
    once = Ratings(np.arange(4, dtype=np.int32), item, np.array([500, 1, 2, -1], np.float32))
    assert relevant_counts(EVENTS.data, once, 3).tolist() == [1, 2, 0]


def test_events_of_which_none_is_positive_have_nothing_to_learn_from() -> None:
    rows = Ratings(np.zeros(2, np.int32), np.arange(2, dtype=np.int32), -np.ones(2, np.float32))
    with pytest.raises(TrainingError, match=r"none of the 2 training events has a positive weight"):
        observations(EVENTS, rows)


def test_the_events_of_a_pair_add_up_and_its_time_is_the_latest() -> None:
    events = Ratings(
        user=np.array([1, 0, 1, 1], np.int32),
        item=np.array([0, 0, 0, 2], np.int32),
        value=np.array([2, 1, -0.5, 4], np.float32),
        rated_at=np.array([10, 30, 20, 0], np.uint32),
    )
    pairs = summed(events)
    assert pairs.rated_at is not None
    assert list(zip(pairs.user, pairs.item, pairs.value, pairs.rated_at, strict=True)) == [
        (0, 0, 1, 30),
        (1, 0, 1.5, 20),
        (1, 2, 4, 0),
    ]
    assert len(summed(events.take(np.zeros(4, bool)))) == 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [("recommend.rank_by", "rating"), ("rating_head.bayes.side_information", True)],
)
def test_a_setting_that_needs_ratings_is_refused_with_events(setting: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"{setting} is .*data\.kind is events"):
        make_config({setting: value}, EVENTS)


def test_settings_of_the_rating_head_shape_nothing_with_events() -> None:
    """So a change of them makes no news, and a warm start asks for no rating solver."""
    other = make_config({"rating_head.solver": "biases", "rating_head.patience": 9}, EVENTS)
    assert other.fingerprint("model", "lists") == EVENTS.fingerprint("model", "lists")
    assert make_config({"train.warm_start": True}, other).heads() == ("ranking",)
    assert Config().fingerprint("model") != EVENTS.fingerprint("model")


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """Users who play items of their own third, some much, and dislike a few of the others."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((150, 60)) < 0.6)
    same_third = (user % 3) == (item % 3)
    plays = np.where(same_third, np.ceil(rng.exponential(5, len(user))), -9.0)
    kept = same_third | (rng.random(len(user)) < 0.6)
    rows = Ratings(
        user[kept].astype(np.int32), item[kept].astype(np.int32), plays[kept].astype(np.float32)
    )
    rows = sort_ratings(rows)
    is_test = rng.random(len(rows)) < 0.3
    return Snapshot(
        users=id_map(f"{number:03d}" for number in range(150)),
        items=id_map(f"{number:03d}" for number in range(60)),
        train=rows.take(~is_test),
        test=rows.take(is_test),
    )


@pytest.fixture(scope="module")
def figures(snapshot: Snapshot) -> list[Figure]:
    """The figures of a fit."""
    fit = fit_ranking_head(EVENTS, snapshot.train, snapshot.users, snapshot.items)
    heads = make_heads(EVENTS, snapshot, Models(None, fit.model), snapshot.train)
    return evaluate(EVENTS, snapshot, heads, champion=None, recent=[])


def test_lists_of_events_beat_popularity_and_have_no_figures_of_ratings(
    figures: list[Figure],
) -> None:
    report = headline(1, None, figures, 10)
    assert report.ndcg > report.popularity_ndcg + 0.1
    assert {figure.head for figure in figures} == {"ranking"}
    assert report.rmse is report.baseline_rmse is None
    assert "no ratings to predict" in report.sentence()
    assert "nan" not in report.sentence().lower()


def test_a_dislike_is_a_signal_against(snapshot: Snapshot) -> None:
    """Users who dislike what a user likes are of another kind, and so are their likes."""
    known = snapshot.train
    with_dislikes = fit_ranking_head(EVENTS, known, snapshot.users, snapshot.items).model
    taken_for_likes = dataclasses.replace(known, value=np.abs(known.value))
    confused = fit_ranking_head(EVENTS, taken_for_likes, snapshot.users, snapshot.items).model

    def ndcg(model: object) -> float:
        heads = make_heads(EVENTS, snapshot, Models(None, model), known)  # type: ignore[arg-type]
        measured = evaluate(EVENTS, snapshot, heads, champion=None, recent=[])
        return headline(1, None, measured, 10).ndcg

    assert ndcg(with_dislikes) > ndcg(confused)


def broken(rules: list[Rule]) -> Iterator[str]:
    for rule in rules:
        if not rule.passed:
            yield rule.rule


def test_the_gate_judges_lists_alone_and_says_so(figures: list[Figure]) -> None:
    config = make_config({"gate.min_test_users": 5}, EVENTS)
    rules = judge(config, figures, None, recent_best=False)
    assert not list(broken(rules))
    [said] = [rule.text for rule in rules if rule.rule == "lists_only"]
    assert said == "the source holds events: no ratings are predicted, only lists are judged"
    assert not any("rmse" in rule.text.lower() for rule in rules)

    worse = [
        dataclasses.replace(figure, value=0.99) if figure.subject == "popularity" else figure
        for figure in figures
    ]
    assert list(broken(judge(config, worse, None, recent_best=False))) == ["not_below_popularity"]
    unknown = [
        dataclasses.replace(figure, value=math.nan)
        if (figure.subject, figure.metric) == ("candidate", "ndcg_at_10")
        else figure
        for figure in figures
    ]
    assert "figures_complete" in broken(judge(config, unknown, None, recent_best=False))
    against_nothing = list(broken(judge(config, figures, 7, recent_best=False)))
    assert against_nothing == ["ndcg_against_champion_all", "ndcg_against_champion_warm_both"]


@pytest.fixture
def files(tmp_path: Path, snapshot: Snapshot) -> Config:
    """Two files of events, in which every third pair comes twice."""
    names = {"uri": "train.csv", "test_uri": "test.csv"}
    for side, name in zip((snapshot.train, snapshot.test), names.values(), strict=True):
        lines = ["user_id,item_id,rating"]
        for place, (user, item, value) in enumerate(
            zip(side.user, side.item, side.value, strict=True)
        ):
            parts = [value - 0.5, 0.5] if place % 3 == 0 else [value]
            lines += [f"{user},{item},{part}" for part in parts]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    uris = {f"source.{name}": str(tmp_path / file) for name, file in names.items()}
    return make_config(uris, EVENTS)


def test_a_backtest_of_events_sums_them_and_measures_lists(
    files: Config, snapshot: Snapshot
) -> None:
    report = backtest(files, None, lambda line: None)
    assert (report.n_train, report.n_test) == (len(snapshot.train), len(snapshot.test))
    shown = report.as_dict()
    assert shown["ndcg_at_10"] > shown["popularity_ndcg_at_10"]
    assert not any("rmse" in name or "mae" in name for name in shown)
    assert set(shown["iterations"]) == {"ranking"}
    with pytest.raises(ConfigError, match="there is no rating head where"):
        backtest(files, "rating", lambda line: None)
