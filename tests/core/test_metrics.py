"""Metrics worked by hand, and intervals that behave."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mf_core.config import Config, DataConfig, make_config
from mf_core.data.ratings import IdMap, Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.figures import COVERAGE, GINI, NOVELTY, RATING_METRICS, RMSE, Figure, Metric
from mf_core.judging.bootstrap import Column, estimate, paired_loss
from mf_core.judging.evaluate import evaluate
from mf_core.judging.metrics import diversity, list_quality, rating_column
from mf_core.judging.rivals import Rival, _in_other_rows, unseen_rows
from mf_core.models.baselines import biases_only_model, global_mean_model, popularity_model
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads, Models, make_heads
from mf_core.models.lists import ListMaker
from mf_core.models.samples import PosteriorSamples
from mf_core.models.user_items import items_by_user


def ratings(rows: list[tuple[int, int, float]]) -> Ratings:
    """Return ratings given as (user, item, value)."""
    user, item, value = zip(*rows, strict=True)
    return Ratings(
        np.array(user, np.int32),
        np.array(item, np.int32),
        np.array(value, np.float32),
    )


def scores_model(scores: list[list[float]]) -> FactorModel:
    """A model whose scores are given: one factor per item."""
    matrix = np.array(scores, np.float32)
    n_users, n_items = matrix.shape

    return FactorModel(
        mean=0.0,
        user_bias=np.zeros(n_users, np.float32),
        item_bias=np.zeros(n_items, np.float32),
        user_factors=matrix,
        item_factors=np.eye(n_items, dtype=np.float32),
        users=id_map(f"u{k}" for k in range(n_users)),
        items=id_map(f"i{k}" for k in range(n_items)),
    )


def lists_of(model: FactorModel, train: Ratings, left_out: tuple[int, ...] = ()) -> ListMaker:
    """Lists in the order of the model's scores, without training items."""
    return ListMaker(
        ordering=model,
        seen=items_by_user(train, len(model.users)),
        left_out=np.array(left_out, np.int32),
        relevant_counts=np.zeros(len(model.items)),
        from_model=np.ones(len(model.users), bool),
    )


def baseline_heads(config: Config, snapshot: Snapshot, **kwargs: Any) -> Heads:
    """Biases as the rating head, popularity as the ranking head."""
    models = Models(biases_only_model(snapshot), popularity_model(config.data, snapshot))
    return make_heads(config, snapshot, models, snapshot.train, **kwargs)


def whole_column(test: Ratings, errors: np.ndarray, n_users: int, metric: Metric = RMSE) -> Column:
    """Return the column of a metric over all test ratings."""
    rows = np.ones(len(test), bool)
    return rating_column(metric, test, errors, rows, n_users=n_users, name="all")


def by_key(figures: list[Figure]) -> dict[tuple[str, str, str], Figure]:
    """Return figures by subject, metric and slice."""
    return {(found.subject, found.metric, found.slice): found for found in figures}


def test_rating_figures_are_sums_divided_once() -> None:
    test = ratings([(0, 0, 4), (0, 1, 2), (1, 0, 5)])
    errors = np.array([1.0, -2.0, 0.5])
    found = {}
    for metric in RATING_METRICS:
        column = whole_column(test, errors, 2, metric)
        found[metric.name] = estimate(column, 100, 0).value

    expected = {"rmse": np.sqrt(5.25 / 3), "mae": 3.5 / 3, "average_error": 5.25 / 6}
    assert found == pytest.approx(expected)


def test_list_figures_by_hand() -> None:
    model = scores_model([[9, 8, 7, 6, 5], [5, 6, 7, 8, 9]])
    train = ratings([(0, 0, 5), (1, 4, 5)])
    test = ratings([(0, 1, 5), (0, 3, 4), (0, 2, 3), (1, 0, 2)])
    quality = list_quality(lists_of(model, train), test, DataConfig(), cutoff=3)

    # User 0 is shown 1, 2, 3 (0 was rated); relevant are 1 and 3: places 1 and 3.
    # User 1 has no relevant test item.
    assert quality.judged.tolist() == [1, 0]
    assert quality.lists.tolist() == [[1, 2, 3]]

    # NDCG = DCG / ideal DCG, and a place k is worth 1 / log2(k + 1).
    gained = 1 + 1 / np.log2(4)
    ideal = 1 + 1 / np.log2(3)

    assert quality.ndcg[0] == pytest.approx(gained / ideal)

    # Average precision: 1 of 1 at place 1, 2 of 3 at place 3.
    assert quality.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)
    assert quality.recall[0] == 1
    assert quality.hit[0] == 1


def test_the_ideal_list_has_ndcg_one_even_with_more_relevant_items_than_places() -> None:
    model = scores_model([[5, 4, 3, 2, 1]])
    test = ratings([(0, k, 5) for k in range(5)])
    nothing = ratings([(0, 0, 1)]).take(np.zeros(1, bool))
    quality = list_quality(lists_of(model, nothing), test, DataConfig(), cutoff=3)

    assert quality.ndcg[0] == pytest.approx(1)
    assert quality.recall[0] == pytest.approx(3 / 5)


def test_diversity_by_hand() -> None:
    lists = np.array([[0, 1], [0, 1], [0, -1]], np.int32)
    train = ratings([(0, 0, 5), (1, 0, 5), (0, 1, 4)])
    found = diversity(lists, train, n_items=4)

    assert found[COVERAGE] == 0.5

    # Novelty: mean of -log2 p over the five places; one is added to each item's count.
    popularity = np.array([3, 2, 1, 1]) / 7
    bits = -np.log2(popularity)

    assert found[NOVELTY] == pytest.approx((3 * bits[0] + 2 * bits[1]) / 5)

    # Shown 0, 0, 2, 3 times: sum((2k - n - 1) x) / (n sum x).
    assert found[GINI] == pytest.approx((1 * 2 + 3 * 3) / (4 * 5))


def test_an_interval_holds_its_figure_and_narrows_with_more_users() -> None:
    generator = np.random.default_rng(0)

    def width(n_users: int) -> float:
        test = ratings([(u, 0, 3) for u in range(n_users)])
        errors = generator.normal(size=n_users)
        column = whole_column(test, errors, n_users)
        found = estimate(column, 500, 1)

        assert found.low < found.value < found.high

        return found.high - found.low

    narrow = width(4000)
    wide = width(40)

    assert narrow < wide / 5


def test_a_paired_loss_of_a_model_against_itself_is_zero() -> None:
    test = ratings([(u, 0, 3) for u in range(30)])
    errors = np.linspace(-1, 1, 30)
    column = whole_column(test, errors, 30)
    loss = paired_loss(column, column, 200, 0)

    assert vars(loss) == {"value": 0.0, "low": 0.0, "high": 0.0}


def numbered(prefix: str, n: int) -> IdMap:
    """Return the ids prefix + 00, 01, ..."""
    return id_map(f"{prefix}{k:02d}" for k in range(n))


def world(seed: int = 0) -> Snapshot:
    """Return ratings of 50 users and 30 items that differ by biases and nothing else."""
    generator = np.random.default_rng(seed)
    user, item = np.nonzero(generator.random((50, 30)) < 0.5)
    user_bias = generator.normal(size=50)
    item_bias = generator.normal(size=30)
    value = np.clip(np.round(3 + user_bias[user] + item_bias[item]), 1, 5)

    everything = Ratings(
        user.astype(np.int32),
        item.astype(np.int32),
        value.astype(np.float32),
    )
    is_test = generator.random(len(user)) < 0.3

    return Snapshot(
        users=numbered("u", 50),
        items=numbered("i", 30),
        train=everything.take(~is_test),
        test=everything.take(is_test),
    )


def test_the_biases_beat_the_global_mean_and_slices_add_up() -> None:
    snapshot = world()
    config = make_config({"gate.bootstrap_samples": 100})
    heads = baseline_heads(config, snapshot)
    figures = evaluate(config, snapshot, heads, None, [])

    found = by_key(figures)
    candidate = found["candidate", "rmse", "all"].value
    biases = found["biases", "rmse", "all"].value

    assert candidate == biases
    assert biases < found["global_mean", "rmse", "all"].value

    by_users = [
        figure
        for figure in figures
        if figure.metric == "rmse"
        and figure.subject == "candidate"
        and figure.slice.startswith("users_")
    ]
    squares = sum(figure.n * figure.value**2 for figure in by_users)

    assert sum(figure.n for figure in by_users) == len(snapshot.test)
    assert squares == pytest.approx(len(snapshot.test) * candidate**2)


def test_a_rival_is_judged_only_on_rows_it_was_not_trained_on() -> None:
    snapshot = world()
    swapped = replace(snapshot, train=snapshot.test, test=snapshot.train)
    renamed = replace(snapshot, users=numbered("x", 50))

    def unseen(rival: Snapshot) -> np.ndarray:
        return unseen_rows(snapshot.test, snapshot.users, snapshot.items, rival)

    assert unseen(snapshot).all()
    assert not unseen(swapped).any()
    assert unseen(renamed).all()


def test_a_rival_that_knows_other_ids_falls_back_to_its_mean() -> None:
    snapshot = world()
    config = make_config({"gate.bootstrap_samples": 100})
    ours = baseline_heads(config, snapshot)

    other = replace(snapshot, users=numbered("x", 50), items=numbered("y", 30))
    models = Models(global_mean_model(other), popularity_model(config.data, other))
    warm_users, warm_items = other.warm()
    rival = Rival(
        model_version=1,
        heads=make_heads(config, snapshot, models, snapshot.train),
        unseen=np.ones(len(snapshot.test), bool),
        warm_users=_in_other_rows(warm_users, other.users, snapshot.users),
        warm_items=_in_other_rows(warm_items, other.items, snapshot.items),
    )

    assert not rival.warm_users.any()

    figures = evaluate(config, snapshot, ours, rival, [])
    found = by_key(figures)
    global_mean = found["global_mean", "rmse", "all"].value

    assert found["champion", "rmse", "all"].value == pytest.approx(global_mean, abs=1e-6)
    assert np.isnan(found["champion", "rmse_loss", "warm_both"].value)


def figures_with_deviation(snapshot: Snapshot, deviation: float) -> dict[tuple[str, str], Figure]:
    """Return the candidate's figures where every prediction has the same standard deviation."""
    # One sample: its own variance is 0, and the noise is the same for all pairs.
    samples = PosteriorSamples(
        user=np.zeros((1, 50, 2), np.float32),
        item=np.zeros((1, 30, 2), np.float32),
        user_variance=np.full((1, 50), deviation, np.float32),
        item_variance=np.full((1, 30), deviation, np.float32),
    )
    config = make_config({"gate.bootstrap_samples": 100})
    heads = baseline_heads(config, snapshot, samples=samples)
    figures = evaluate(config, snapshot, heads, None, [])

    return {
        (figure.metric, figure.slice): figure for figure in figures if figure.subject == "candidate"
    }


def test_intervals_reach_as_far_as_the_errors_do() -> None:
    snapshot = world()
    test = snapshot.test
    predicted = biases_only_model(snapshot).predict(test.user, test.item)
    errors = np.abs(np.clip(predicted, 1, 5) - test.value)

    found = figures_with_deviation(snapshot, 0.5)
    assert found["mean_sd", "all"].value == pytest.approx(0.5)
    for percent in (50, 80, 90, 95):
        reach = found[f"interval_reach_{percent}", "all"].value
        assert (errors <= reach * 0.5).mean() == pytest.approx(percent / 100, abs=0.02)
        within = found[f"interval_coverage_{percent}", "all"]
        assert within.value == pytest.approx(percent / 100, abs=0.05)
        assert within.n == len(test)

    slices = {name for metric, name in found if metric == "interval_coverage_90"}
    assert slices == {name for metric, name in found if metric == "rmse"}

    # Standard deviations that are twenty times as large reach a twentieth as far.
    wide = figures_with_deviation(snapshot, 10.0)
    reaches = [figures["interval_reach_90", "all"].value for figures in (found, wide)]
    assert reaches[0] == pytest.approx(20 * reaches[1])


def test_items_without_any_rating_are_on_no_list_that_the_ranking_head_orders() -> None:
    snapshot = Snapshot(
        users=id_map("u"),
        items=id_map(f"i{k}" for k in range(5)),
        train=ratings([(0, 0, 5)]),
        test=ratings([(0, 3, 5)]),
    )
    by_ranking = make_config({"gate.cutoff": 3})
    by_rating = make_config({"recommend.rank_by": "rating"})
    unlisted = baseline_heads(by_ranking, snapshot).lists.left_out

    assert unlisted.tolist() == [1, 2, 4]
    assert baseline_heads(by_rating, snapshot).lists.left_out.tolist() == []

    model = scores_model([[9, 0, 0, -1, 0]])
    listed = lists_of(model, snapshot.train, left_out=(1, 2, 4))
    quality = list_quality(listed, snapshot.test, DataConfig(), 3)

    assert quality.lists.tolist() == [[3, -1, -1]]

    everything = lists_of(model, snapshot.train)
    quality = list_quality(everything, snapshot.test, DataConfig(), 3)

    assert quality.lists.tolist() == [[1, 2, 4]]

    shown = diversity(np.array([[3, -1, -1]], np.int32), snapshot.train, 5, unlisted)
    assert shown[COVERAGE] == 0.5
