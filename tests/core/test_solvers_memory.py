"""A fit that does not fit is refused before it begins."""

import numpy as np
import pytest

from mf_core.config import Config, Head, make_config
from mf_core.data.ratings import Ratings, id_map
from mf_core.errors import TrainingError
from mf_core.solvers import memory
from mf_core.solvers.fit import SOLVERS, fit_ranking_head, fit_rating_head
from mf_core.solvers.forecast import refuse_heads_that_do_not_fit, training_memory

CPU = {"train.device": "cpu"}


def host_bytes(config: Config, head: Head, n_ratings: int, shape: tuple[int, int]) -> int:
    solver = SOLVERS[config.solver_name(head)]
    return memory.needed(solver, config.solver_settings(head), n_ratings, shape).host


def test_bytes_needed_follow_the_documented_formula() -> None:
    config = make_config({**CPU, "rating_head.solver": "als", "rating_head.als.n_factors": 31})
    batch = 4 * 4 * (1 << 22)
    assert host_bytes(config, "rating", 1_000, (30, 20)) == 52 * 1_000 + 24 * 32 * 50 + batch
    bayes = {"n_factors": 15, "pattern_rank": 8, "kept_samples": 4, "output_factors": 10}
    config = make_config(
        {**CPU, **{f"rating_head.bayes.{name}": value for name, value in bayes.items()}}
    )
    per_row = 4 * 8 + 4 * 17 * 4 + 28 * 16 + 4 * (20 + 256) + 4 * (20 + 256)
    assert host_bytes(config, "rating", 1_000, (30, 20)) == 52 * 1_000 + per_row * 50 + batch
    wide = make_config({"rating_head.bayes.pattern_rank": 400}, config)
    assert (
        host_bytes(wide, "rating", 1_000, (3_000, 2_000)) == 52 * 1_000 + 24 * 416 * 5_000 + batch
    )


def test_bytes_needed_count_beyond_2_to_the_31() -> None:
    assert host_bytes(make_config(CPU), "ranking", 3_000_000_000, (30, 20)) > 52 * 3_000_000_000


@pytest.mark.parametrize("fit", [fit_rating_head, fit_ranking_head])
def test_a_fit_that_exceeds_the_free_memory_is_refused_with_both_figures(
    fit: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The machine's memory can't be shrunk; what the check reads of it can.
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 20)
    ids, rows = id_map("ab"), np.zeros(2, np.int32)
    train = Ratings(rows, np.arange(2, dtype=np.int32), np.full(2, 5, np.float32))
    with pytest.raises(
        TrainingError,
        match=r"takes about 0\.\d GiB of memory, and 0\.0 GiB is free.*docs/model\.md#memory",
    ):
        fit(make_config(CPU), train, ids, ids)  # type: ignore[operator]


def test_with_warn_it_is_tried_and_with_off_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 20)
    lines: list[str] = []
    shape = (1_000, 500)
    for mode in ("warn", "off"):
        config = make_config({**CPU, "run.capacity": mode})
        refuse_heads_that_do_not_fit(config, 100_000, shape, n_workers=1, log=lines.append)
    assert [line.split(" (")[1] for line in lines] == ["run.capacity is warn, so it is tried)"] * 2


def test_all_heads_are_looked_at_before_the_first_is_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config({**CPU, "rating_head.solver": "biases"})
    shape = (100_000, 50_000)
    rating = host_bytes(config, "rating", 1_000, shape)
    assert host_bytes(config, "ranking", 1_000, shape) > rating + 1
    monkeypatch.setattr(memory, "free_memory", lambda: rating + 1)
    with pytest.raises(TrainingError, match="fitting the ranking head"):
        refuse_heads_that_do_not_fit(config, 1_000, shape, n_workers=1, log=print)


def test_a_whole_training_takes_more_than_its_largest_fit() -> None:
    config = make_config(CPU)
    shape = (138_000, 27_000)
    fits = [host_bytes(config, head, 14_000_000, shape) for head in config.heads()]
    assert training_memory(config, 14_000_000, shape).host > max(fits)
