"""The search: what it looks at, what it leaves alone, and that it ends no worse than it began."""

from dataclasses import replace

import numpy as np
import pytest

from mf_core.config import Config, make_config, pinned, with_found
from mf_core.data.ratings import Ratings, id_map
from mf_core.errors import ConfigError
from mf_core.records import FoundSettings
from mf_core.training import search
from mf_core.training.ranking_candidates import ranking_candidates
from mf_core.training.search import search_settings
from mf_core.training.search_rows import SearchRows, validation_parts

SMALL = {
    "ranking_head.n_factors": 4,
    "ranking_head.iterations": 3,
    "train.device": "cpu",
}
CONFIG = make_config(SMALL)


def rows(*, times: bool = False, n_users: int = 150, n_items: int = 60) -> SearchRows:
    """Users who like the items of their own half."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((n_users, n_items)) < 0.25)
    value = np.where(user % 2 == item % 2, 5, rng.integers(1, 4, len(user)))
    rated_at = rng.permutation(len(user)).astype(np.uint32) + 1 if times else None
    train = Ratings(
        user.astype(np.int32), item.astype(np.int32), value.astype(np.float32), rated_at
    )
    return SearchRows(
        train,
        id_map(f"{number:03d}" for number in range(n_users)),
        id_map(f"{number:03d}" for number in range(n_items)),
    )


def searched(config: Config, begin_at: FoundSettings | None = None) -> FoundSettings:
    return search_settings(config, rows(), begin_at, lambda line: None, heads=("ranking",))


def test_found_settings_lie_under_those_that_a_person_has_set() -> None:
    config = make_config({"ranking_head.unobserved_scale": 0.3})
    found = {"ranking_head.unobserved_scale": 0.01, "ranking_head.regularization": 0.5}
    laid = with_found(config, found)
    assert laid.ranking_head.unobserved_scale == 0.3
    assert laid.ranking_head.regularization == 0.5
    assert pinned(config) == {"ranking_head.unobserved_scale"}
    fixed = make_config({"train.settings": "fixed"})
    assert with_found(fixed, found) == fixed
    with pytest.raises(ConfigError, match="no_such"):
        with_found(config, {"ranking_head.no_such": 1})


def test_a_search_is_no_worse_than_the_shipped_settings_on_its_validation_part() -> None:
    found = searched(CONFIG)
    last = [trial for trial in found.trials if trial["iterations"] == 1]
    figures = {tuple(trial["settings"]): trial["value"] for trial in last}
    if found.settings:
        assert max(figures.values()) == figures[tuple(found.settings)]
        assert figures[tuple(found.settings)] > figures[()]
    assert found.n_ratings == len(rows().train)
    assert "validation ratings" in found.grounds


def test_the_same_rows_give_the_same_figures() -> None:
    def figures() -> dict[str, float]:
        trials = searched(CONFIG).trials
        return {f"{trial['settings']} {trial['iterations']}": trial["value"] for trial in trials}

    first = figures()
    second = figures()
    # How many trials there is time for may differ.
    both = set(first) & set(second)
    assert both
    assert {name: first[name] for name in both} == {name: second[name] for name in both}


def test_what_a_person_has_set_is_not_tried() -> None:
    mine = make_config({"ranking_head.unobserved_scale": 0.3}, CONFIG)
    found = searched(mine)
    tried = {name for trial in found.trials for name in trial["settings"]}
    assert tried
    assert "ranking_head.unobserved_scale" not in tried


def test_an_earlier_find_takes_part_and_what_is_not_searched_stays() -> None:
    earlier = FoundSettings(
        settings={"ranking_head.unobserved_scale": 0.77, "rating_head.bayes.n_factors": 30},
        source="tune",
        found_at="2026-01-01T00:00:00+00:00",
        grounds="",
        n_ratings=1,
        n_users=1,
        n_items=1,
    )
    found = searched(CONFIG, earlier)
    tried = [trial["settings"] for trial in found.trials]
    assert {"ranking_head.unobserved_scale": 0.77} in tried
    assert found.settings["rating_head.bayes.n_factors"] == 30


def test_many_ratings_are_searched_on_a_part_of_the_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_SMALL", 0)
    monkeypatch.setattr(search, "_LARGEST_SAMPLE", 1 / 4)
    monkeypatch.setattr(search, "_FITS_OF_THE_SAMPLE", 100.0)
    found = searched(CONFIG)
    assert {trial["users"] for trial in found.trials} <= {1 / 4, 3 / 4}
    assert "of the users" in found.grounds


def test_the_sample_stays_as_large_when_the_ratings_get_more() -> None:
    extents = {n: search._extent(n * 1_000_000) for n in (1, 2, 16)}
    users = {n: [rung.users for rung in rungs] for n, (rungs, _) in extents.items()}
    assert users[16] == pytest.approx([3 / 80, 9 / 80])
    assert users[2] == pytest.approx([1 / 9, 1 / 3])
    assert users[1] == [1.0, 1.0]
    assert [fits for _, fits in extents.values()] == pytest.approx([12, 4 / 3, 0.45])


def test_nothing_to_judge_by_leaves_the_shipped_settings() -> None:
    dull = rows()
    low = replace(dull, train=dull.train.take(dull.train.value < 4))
    found = search_settings(CONFIG, low, None, lambda line: None, heads=("ranking",))
    assert found.settings == {}
    assert "too few relevant ratings" in found.grounds


def test_few_ratings_are_judged_on_several_parts_and_late_ones_on_one() -> None:
    drawn = list(validation_parts(CONFIG, rows()))
    assert len(drawn) == 4
    temporal = make_config({"split.protocol": "temporal"}, CONFIG)
    [part] = validation_parts(temporal, rows(times=True))
    assert part.fitted.rated_at is not None
    assert part.validation.rated_at is not None
    assert part.validation.rated_at.min() > part.fitted.rated_at.max()


def test_every_candidate_is_a_setting_within_its_bounds() -> None:
    for stage in ranking_candidates(Config()):
        assert stage
        for alternative in stage:
            with_found(Config(), alternative)
