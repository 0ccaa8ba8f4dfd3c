"""An evaluation makes each list once, draws its resamples once and holds few models at a time."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from mf_core.config import make_config
from mf_core.data.ratings import Int32s, Ratings, id_map
from mf_core.data.snapshot import Snapshot
from mf_core.figures import Figure
from mf_core.judging import bootstrap, judge
from mf_core.judging.bootstrap import Bootstrap, Column, estimate, paired_loss
from mf_core.judging.evaluate import evaluate
from mf_core.judging.rivals import Rival
from mf_core.models.baselines import biases_only_model
from mf_core.models.factors import FactorModel
from mf_core.models.heads import Heads, Models, make_heads
from mf_core.models.lists import ListMaker
from mf_core.models.topn import TopN

N_USERS = 60
N_ITEMS = 80
CONFIG = make_config({"gate.bootstrap_samples": 100, "gate.require_item_baseline": "off"})


def snapshot_of(seed: int = 0) -> Snapshot:
    """Return random ratings from 1 to 5, a third of them held out."""
    generator = np.random.default_rng(seed)
    user, item = np.nonzero(generator.random((N_USERS, N_ITEMS)) < 0.4)
    value = generator.integers(1, 6, len(user))
    everything = Ratings(user.astype(np.int32), item.astype(np.int32), value.astype(np.float32))
    is_test = generator.random(len(user)) < 0.3
    return Snapshot(
        users=id_map(f"u{k:02d}" for k in range(N_USERS)),
        items=id_map(f"i{k:02d}" for k in range(N_ITEMS)),
        train=everything.take(~is_test),
        test=everything.take(is_test),
    )


@dataclass(frozen=True, eq=False)
class CountedLists(ListMaker):
    """Lists that count how often each user's was made."""

    made: Counter[int] = field(default_factory=Counter, init=False)

    def top(self, users: Int32s, n: int, tile_mib: int) -> Iterator[TopN]:
        """Yield the lists, and count them."""
        self.made.update(users.tolist())
        yield from super().top(users, n, tile_mib)


def heads_of(snapshot: Snapshot, seed: int) -> Heads:
    """Return a model with random ranking factors, whose lists are counted."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.normal(size=shape).astype(np.float32)

    ranking = FactorModel(
        mean=0.0,
        user_bias=np.zeros(N_USERS, np.float32),
        item_bias=np.zeros(N_ITEMS, np.float32),
        user_factors=normal(N_USERS, 4),
        item_factors=normal(N_ITEMS, 4),
        users=snapshot.users,
        items=snapshot.items,
    )
    models = Models(biases_only_model(snapshot), ranking)
    heads = make_heads(CONFIG, snapshot, models, snapshot.train)
    fields = {name: getattr(heads.lists, name) for name in ListMaker.__dataclass_fields__}
    return replace(heads, lists=CountedLists(**fields))


def rival_of(snapshot: Snapshot, version: int) -> Rival:
    """Return a rival that has seen none of the test rows."""
    warm_users, warm_items = snapshot.warm()
    return Rival(
        model_version=version,
        heads=heads_of(snapshot, version),
        unseen=np.ones(len(snapshot.test), bool),
        warm_users=warm_users,
        warm_items=warm_items,
    )


def made(heads: Heads) -> Counter[int]:
    """Return how often each user's list was made."""
    assert isinstance(heads.lists, CountedLists)
    return heads.lists.made


def test_each_list_is_made_once_however_many_comparisons_take_it() -> None:
    snapshot = snapshot_of()
    candidate = heads_of(snapshot, 0)
    champion = rival_of(snapshot, 1)
    others = [rival_of(snapshot, version) for version in (2, 3)]
    evaluate(CONFIG, snapshot, candidate, champion, [champion, *others])

    for heads in (candidate, champion.heads, *(rival.heads for rival in others)):
        assert set(made(heads).values()) == {1}


def test_recent_versions_are_let_go_but_for_the_best() -> None:
    snapshot = snapshot_of()
    loaded: list[weakref.ref[Heads]] = []
    held: list[int] = []

    def one_by_one() -> Iterator[Rival]:
        for version in range(1, 9):
            gc.collect()
            held.append(sum(heads() is not None for heads in loaded))
            rival = rival_of(snapshot, version)
            loaded.append(weakref.ref(rival.heads))
            yield rival
            del rival

    evaluate(CONFIG, snapshot, heads_of(snapshot, 0), None, one_by_one())
    # The best by NDCG, the best by RMSE, and the one before, which the loop still names.
    assert max(held) <= 3


def losses(figures: list[Figure]) -> dict[str, Figure]:
    """Return the losses in NDCG against the recent best, by slice."""
    return {
        figure.slice: figure
        for figure in figures
        if figure.subject == "recent_best" and figure.metric == "ndcg_at_10_loss"
    }


def test_the_recent_best_is_found_on_a_sample_and_compared_with_on_all_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot = snapshot_of()
    candidate = heads_of(snapshot, 0)
    rivals = [rival_of(snapshot, version) for version in range(1, 6)]
    alone = [losses(evaluate(CONFIG, snapshot, candidate, None, [rival])) for rival in rivals]
    worst = max(alone, key=lambda found: found["all"].value)

    # Few users: the sample is everybody, and the best is the one that the candidate loses most to.
    assert losses(evaluate(CONFIG, snapshot, candidate, None, rivals)) == worst

    monkeypatch.setattr(judge, "_MOST_SAMPLED_USERS", 20)
    fresh = [rival_of(snapshot, version) for version in range(1, 6)]
    by_sample = losses(evaluate(CONFIG, snapshot, candidate, None, fresh))
    assert by_sample in alone
    n_made = sorted(sum(made(rival.heads).values()) for rival in fresh)
    assert n_made[-2] <= 20 < n_made[-1]


def columns_of(n_columns: int, n_users: int) -> list[Column]:
    """Return random columns."""
    generator = np.random.default_rng(3)
    return [
        Column(
            metric=f"m{number}",
            slice="all",
            numerator=generator.random(n_users),
            denominator=generator.integers(0, 3, n_users).astype(np.float64),
            n=n_users,
            square_root=number % 2 == 1,
        )
        for number in range(n_columns)
    ]


@pytest.mark.parametrize("numbers_waiting", [1, 500, 1 << 24])
def test_figures_measured_together_are_those_measured_alone(
    numbers_waiting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_MOST_NUMBERS_WAITING", numbers_waiting)
    columns = columns_of(6, 70)
    together = Bootstrap(200, 5)
    for column in columns:
        together.add(column.metric, column)
    together.add("loss", columns[0], columns[2])

    found = together.estimates()
    for column in columns:
        expected = vars(estimate(column, 200, 5))
        assert vars(found[column.metric]) == pytest.approx(expected, rel=1e-12)
    expected = vars(paired_loss(columns[0], columns[2], 200, 5))
    assert vars(found["loss"]) == pytest.approx(expected, rel=1e-12, abs=1e-14)
