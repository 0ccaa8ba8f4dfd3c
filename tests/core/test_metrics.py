"""Metrics worked by hand, and intervals that behave."""

from typing import Any

import numpy as np
import pytest

from mf_core.config import Config, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.figures import COVERAGE, GINI, NOVELTY, RATING_METRICS, RMSE, Figure
from mf_core.judging.evaluate import evaluate
from mf_core.judging.metrics import diversity, estimates, list_quality, paired_loss, rating_column
from mf_core.judging.rivals import Rival, _in_other_rows, unseen_rows
from mf_core.models.baselines import biases_only_model, popularity_model
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads, Models, make_heads
from mf_core.models.lists import ListMaker
from mf_core.models.samples import PosteriorSamples
from mf_core.models.topn import items_by_user


def ratings(rows: list[tuple[int, int, float]]) -> Ratings:
    user, item, value = zip(*rows, strict=True)
    return Ratings(np.array(user, np.int32), np.array(item, np.int32), np.array(value, np.float32))


def scores_model(scores: list[list[float]]) -> FactorModel:
    """A model whose scores are given: one factor per item."""
    matrix = np.array(scores, np.float32)
    users, items = (
        id_map(f"u{k}" for k in range(len(matrix))),
        id_map(f"i{k}" for k in range(matrix.shape[1])),
    )
    nothing = [np.zeros(n, np.float32) for n in matrix.shape]
    return FactorModel(
        0.0, nothing[0], nothing[1], matrix, np.eye(matrix.shape[1], dtype=np.float32), users, items
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
    models = Models(biases_only_model(snapshot), popularity_model(snapshot, 4))
    return make_heads(config, snapshot, models, snapshot.train, **kwargs)


def test_rating_figures_are_sums_divided_once() -> None:
    test = ratings([(0, 0, 4), (0, 1, 2), (1, 0, 5)])
    errors, rows = np.array([1.0, -2.0, 0.5]), np.ones(3, bool)
    found = {
        m.name: estimates([rating_column(m, test, errors, rows, n_users=2, name="all")], 100, 0)[
            0
        ].value
        for m in RATING_METRICS
    }
    assert found == pytest.approx(
        {"rmse": np.sqrt(5.25 / 3), "mae": 3.5 / 3, "average_error": 5.25 / 6}
    )


def test_list_figures_by_hand() -> None:
    model = scores_model([[9, 8, 7, 6, 5], [5, 6, 7, 8, 9]])
    train = ratings([(0, 0, 5), (1, 4, 5)])
    test = ratings([(0, 1, 5), (0, 3, 4), (0, 2, 3), (1, 0, 2)])
    quality = list_quality(lists_of(model, train), test, relevant_from=4, cutoff=3)
    # User 0 is shown 1, 2, 3 (0 was rated); relevant are 1 and 3: places 1 and 3. User 1 has no relevant test item.
    ideal = 1 + 1 / np.log2(3)
    assert quality.judged.tolist() == [1, 0]
    assert quality.lists.tolist() == [[1, 2, 3]]
    assert quality.ndcg[0] == pytest.approx((1 + 1 / np.log2(4)) / ideal)
    assert quality.recall[0] == 1
    assert quality.average_precision[0] == pytest.approx((1 + 2 / 3) / 2)
    assert quality.hit[0] == 1


def test_the_ideal_list_has_ndcg_one_even_with_more_relevant_items_than_places() -> None:
    model = scores_model([[5, 4, 3, 2, 1]])
    test = ratings([(0, k, 5) for k in range(5)])
    nothing = ratings([(0, 0, 1)]).take(np.zeros(1, bool))
    quality = list_quality(lists_of(model, nothing), test, 4, cutoff=3)
    assert quality.ndcg[0] == pytest.approx(1)
    assert quality.recall[0] == pytest.approx(3 / 5)


def test_diversity_by_hand() -> None:
    lists = np.array([[0, 1], [0, 1], [0, -1]], np.int32)
    found = diversity(lists, ratings([(0, 0, 5), (1, 0, 5), (0, 1, 4)]), n_items=4)
    assert found[COVERAGE] == 0.5
    popularity = np.array([3, 2, 1, 1]) / 7
    assert found[NOVELTY] == pytest.approx(
        (3 * -np.log2(popularity[0]) + 2 * -np.log2(popularity[1])) / 5
    )
    # Shown 0, 0, 2, 3 times: sum((2k - n - 1) x) / (n sum x).
    assert found[GINI] == pytest.approx((1 * 2 + 3 * 3) / (4 * 5))


def test_an_interval_holds_its_figure_and_narrows_with_more_users() -> None:
    generator = np.random.default_rng(0)

    def width(n_users: int) -> float:
        test = ratings([(u, 0, 3) for u in range(n_users)])
        column = rating_column(
            RMSE,
            test,
            generator.normal(size=n_users),
            np.ones(n_users, bool),
            n_users=n_users,
            name="all",
        )
        [estimate] = estimates([column], 500, 1)
        assert estimate.low < estimate.value < estimate.high
        return estimate.high - estimate.low

    assert width(4000) < width(40) / 5


def test_a_paired_loss_of_a_model_against_itself_is_zero() -> None:
    test = ratings([(u, 0, 3) for u in range(30)])
    errors = np.linspace(-1, 1, 30)
    column = rating_column(RMSE, test, errors, np.ones(30, bool), n_users=30, name="all")
    assert vars(paired_loss(column, column, 200, 0)) == {"value": 0.0, "low": 0.0, "high": 0.0}


def world(seed: int = 0) -> Snapshot:
    generator = np.random.default_rng(seed)
    user, item = np.nonzero(generator.random((50, 30)) < 0.5)
    value = np.clip(
        np.round(3 + generator.normal(size=50)[user] + generator.normal(size=30)[item]), 1, 5
    )
    everything = Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    is_test = generator.random(len(user)) < 0.3
    return Snapshot(
        id_map(f"u{k:02d}" for k in range(50)),
        id_map(f"i{k:02d}" for k in range(30)),
        everything.take(~is_test),
        everything.take(is_test),
    )


def test_the_biases_beat_the_global_mean_and_slices_add_up() -> None:
    snapshot, config = world(), make_config({"gate.bootstrap_samples": 100})
    heads = baseline_heads(config, snapshot)
    figures = evaluate(config, snapshot, heads, None, [])
    value = {(f.subject, f.metric, f.slice): f for f in figures}
    assert value["candidate", "rmse", "all"].value == value["biases", "rmse", "all"].value
    assert value["biases", "rmse", "all"].value < value["global_mean", "rmse", "all"].value
    by_users = [
        f
        for f in figures
        if f.metric == "rmse" and f.subject == "candidate" and f.slice.startswith("users_")
    ]
    assert sum(f.n for f in by_users) == len(snapshot.test)
    assert sum(f.n * f.value**2 for f in by_users) == pytest.approx(
        len(snapshot.test) * value["candidate", "rmse", "all"].value ** 2
    )


def test_a_rival_is_judged_only_on_rows_it_was_not_trained_on() -> None:
    snapshot = world()
    swapped = Snapshot(snapshot.users, snapshot.items, snapshot.test, snapshot.train)
    assert unseen_rows(snapshot.test, snapshot.users, snapshot.items, snapshot).all()
    assert not unseen_rows(snapshot.test, snapshot.users, snapshot.items, swapped).any()
    renamed = Snapshot(
        id_map(f"x{k:02d}" for k in range(50)), snapshot.items, snapshot.test, snapshot.train
    )
    assert unseen_rows(snapshot.test, snapshot.users, snapshot.items, renamed).all()


def test_a_rival_that_knows_other_ids_falls_back_to_its_mean() -> None:
    snapshot, config = world(), make_config({"gate.bootstrap_samples": 100})
    ours = baseline_heads(config, snapshot)
    other = Snapshot(
        id_map(f"x{k:02d}" for k in range(50)),
        id_map(f"y{k:02d}" for k in range(30)),
        snapshot.train,
        snapshot.test,
    )
    models = Models(biases_only_model(other), popularity_model(other, 4))
    rival = Rival(
        model_version=1,
        heads=make_heads(config, snapshot, models, snapshot.train),
        unseen=np.ones(len(snapshot.test), bool),
        warm_users=_in_other_rows(other.warm()[0], other.users, snapshot.users),
        warm_items=_in_other_rows(other.warm()[1], other.items, snapshot.items),
    )
    assert not rival.warm_users.any()
    figures = evaluate(config, snapshot, ours, rival, [])
    value = {(f.subject, f.metric, f.slice): f for f in figures}
    assert value["champion", "rmse", "all"].value == pytest.approx(
        value["global_mean", "rmse", "all"].value, abs=1e-6
    )
    assert np.isnan(value["champion", "rmse_loss", "warm_both"].value)


def test_the_share_within_ninety_percent_intervals_is_measured() -> None:
    snapshot, config = world(), make_config({"gate.bootstrap_samples": 100})
    biases = biases_only_model(snapshot)
    errors = np.abs(
        np.clip(biases.predict(snapshot.test.user, snapshot.test.item), 1, 5) - snapshot.test.value
    )

    def figures(deviation: float) -> dict[tuple[str, str], Figure]:
        # One sample: its own variance is 0, and the noise is the same for all pairs.
        users, items = (np.zeros((1, n, 2), np.float32) for n in (50, 30))
        samples = PosteriorSamples(
            users, items, *(np.full((1, n), deviation, np.float32) for n in (50, 30))
        )
        heads = baseline_heads(config, snapshot, samples=samples)
        return {
            (f.metric, f.slice): f
            for f in evaluate(config, snapshot, heads, None, [])
            if f.subject == "candidate"
        }

    found = figures(0.5)
    assert found["mean_sd", "all"].value == pytest.approx(0.5)
    assert found["interval_coverage_90", "all"].value == pytest.approx(
        (errors <= 1.6448536 * 0.5).mean()
    )
    assert found["interval_coverage_90", "all"].n == len(snapshot.test)
    assert {name for metric, name in found if metric == "interval_coverage_90"} == {
        name for metric, name in found if metric == "rmse"
    }
    assert figures(10.0)["interval_coverage_90", "all"].value == 1.0
    assert figures(0.0)["interval_coverage_90", "all"].value < 0.05


def test_items_without_any_rating_are_on_no_list_that_the_ranking_head_orders() -> None:
    config, by_rating = (
        make_config({"gate.cutoff": 3}),
        make_config({"recommend.rank_by": "rating"}),
    )
    ids = id_map("u"), id_map(f"i{k}" for k in range(5))
    snapshot = Snapshot(*ids, ratings([(0, 0, 5)]), ratings([(0, 3, 5)]))
    unlisted = baseline_heads(config, snapshot).lists.left_out
    assert unlisted.tolist() == [1, 2, 4]
    assert baseline_heads(by_rating, snapshot).lists.left_out.tolist() == []
    model = scores_model([[9, 0, 0, -1, 0]])
    listed = lists_of(model, snapshot.train, left_out=(1, 2, 4))
    assert list_quality(listed, snapshot.test, 4, 3).lists.tolist() == [[3, -1, -1]]
    everything = lists_of(model, snapshot.train)
    assert list_quality(everything, snapshot.test, 4, 3).lists.tolist() == [[1, 2, 4]]
    shown = diversity(np.array([[3, -1, -1]], np.int32), snapshot.train, 5, unlisted)
    assert shown[COVERAGE] == 0.5
