"""Published folds: which rows, catalogue, attributes and scale a backtest works on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mf_core.backtest import read_folds
from mf_core.cli.backtest import backtest
from mf_core.config import Config, make_config
from mf_core.data.ratings import UNDATED
from mf_core.errors import ConfigError, QualityError


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two folds, and files of users and items that know more than the folds."""
    texts = {
        "train.csv": "user_id,item_id,rating\na,x,4\nb,y,2\n",
        "test.csv": "user_id,item_id,rating\na,y,3\n",
        "users.csv": "user_id,age,job\na,31,baker\nc,60,\n",
        "items.csv": "item_id,title,genres\nx,One (1990),Drama|War\nz,Two,\n",
    }

    for name, text in texts.items():
        (tmp_path / name).write_text(text)

    uris = {
        "uri": "train.csv",
        "test_uri": "test.csv",
        "users_uri": "users.csv",
        "items_uri": "items.csv",
    }

    return make_config(
        {f"source.{setting}": str(tmp_path / name) for setting, name in uris.items()}
    )


def test_the_catalogue_holds_the_rows_of_the_items_file(config: Config) -> None:
    snapshot = read_folds(config)
    assert list(snapshot.users.ids) == ["a", "b", "c"]
    assert list(snapshot.items.ids) == ["x", "y", "z"]
    assert len(snapshot.train) == 2
    assert len(snapshot.test) == 1
    assert snapshot.attributes is None


def test_times_of_the_files_travel_as_whole_seconds(config: Config) -> None:
    assert read_folds(config).train.rated_at is None

    train = Path(config.source.uri)
    rows = "user_id,item_id,rating,timestamp\na,x,4,2020-02-29T00:00:00.9Z\nb,y,2,\n"
    train.write_text(rows)
    dated = read_folds(config)

    # Where one file has times, the rows without one are undated.
    assert dated.train.rated_at is not None
    assert dated.train.rated_at.tolist() == [1_582_934_400, UNDATED]
    assert dated.test.rated_at is not None
    assert dated.test.rated_at.tolist() == [UNDATED]


def test_ratings_without_times_are_refused_where_they_are_to_fade(config: Config) -> None:
    fading = make_config({"data.popular_half_life_days": 30}, config)

    with pytest.raises(QualityError, match=r"popular_half_life_days is 30, but no rating has a"):
        read_folds(fading)


def parsed(texts: np.ndarray) -> list[Any]:
    """Return JSON texts as Python objects; None stays None."""
    return [text and json.loads(text) for text in texts]


def test_with_side_information_attributes_come_from_the_named_files(config: Config) -> None:
    named = make_config({"rating_head.bayes.side_information": True}, config)
    attributes = read_folds(named).attributes

    assert attributes is not None
    assert parsed(attributes.user) == [{"age": 31, "job": "baker"}, None, {"age": 60}]
    assert parsed(attributes.item) == [
        {"genres": ["Drama", "War"], "year": 1990},
        None,
        {"genres": []},
    ]

    unnamed = make_config({"source.users_uri": "", "source.items_uri": ""}, named)
    nothing = read_folds(unnamed).attributes

    assert nothing is not None
    assert nothing.user.tolist() == [None, None]


def rows_of(users: str, items: str) -> str:
    """Return a file in which each user has rated each item, letters being ids."""
    pairs = [
        f"{user},{item},{1 + number % 5}" for user in users for number, item in enumerate(items)
    ]
    return "\n".join(["user_id,item_id,rating", *pairs, ""])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("users", "items", "counts", "says"),
    [
        ("abcd", "vwxyz", (0, 0, 0), "0 of the test ratings have"),
        ("abcn", "vwxyz", (5, 0, 5), "5 of the test ratings have"),
        ("abcn", "vwxyo", (5, 4, 8), "no training rating of their user (5) or item (4)"),
        ("ABCD", "vwxyz", (20, 0, 20), "warning: 20 of the test ratings have"),
    ],
)
def test_a_backtest_says_how_many_test_rows_are_of_unknown_users_and_items(
    tmp_path: Path, users: str, items: str, counts: tuple[int, int, int], says: str
) -> None:
    train = tmp_path / "train.csv"
    test = tmp_path / "test.csv"
    train.write_text(rows_of("abcdefgh", "uvwxyz"))
    test.write_text(rows_of(users, items))
    settings = ["--set=rating_head.solver=als", "--set=train.settings=fixed", "--head=rating"]
    files = ["--train", str(train), "--test", str(test)]
    done = CliRunner().invoke(backtest, [*files, *settings, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    names = ("n_test_unknown_user", "n_test_unknown_item", "n_test_unknown")
    assert tuple(report[name] for name in names) == counts
    assert says in done.stderr
    assert ("do both files write ids alike" in done.stderr) == (2 * counts[2] > 20)


@pytest.mark.parametrize("scale_first", [True, False])
def test_a_scale_is_checked_together_with_what_counts_as_relevant_on_it(
    monkeypatch: pytest.MonkeyPatch, scale_first: bool
) -> None:
    asked: list[Config] = []

    def keep(config: Config, *_: object) -> None:
        """Keep the settings in the place of a backtest, and end the command."""
        asked.append(config)
        raise SystemExit(0)

    monkeypatch.setattr("mf_core.backtest.backtest", keep)
    scale = ["--scale", "20,100"]
    relevant = ["--set", "data.relevant_from=60"]
    options = scale + relevant if scale_first else relevant + scale
    done = CliRunner().invoke(backtest, ["--train", "a", "--test", "b", *options])

    assert done.exit_code == 0, done.output
    assert (asked[0].data.scale_low, asked[0].data.scale_high) == (20, 100)
    assert asked[0].data.relevant_from == 60


def test_what_is_relevant_must_lie_on_the_scale_that_is_named() -> None:
    done = CliRunner().invoke(backtest, ["--train", "a", "--test", "b", "--scale", "20,100"])
    assert isinstance(done.exception, ConfigError)
    assert "data.relevant_from 4.0 must lie in 20.0..100.0" in str(done.exception)
