"""The export of `mf.ratings` and its split, on ids and dates that are hard to carry."""

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.config import SplitConfig
from mf_core.data.snapshot import Snapshot, content_hash
from mf_core.data.split import split_bucket, take_snapshot
from mf_core.warehouse import transaction
from mf_core.warehouse.bootstrap import migrate

from .worlds import load

# What a reader of CSV might take for something else, or put in another order.
ODD_IDS = [
    *["", "NA", "NaN", "null", "t", "f", "-inf", "#N/A", "\\N", "\\.", "%s", "{mf}"],
    *["a,b", 'q"u', '"', "'", " x ", "tab\t", "l\nf", "c\rr", "c\r\nl", "\u2028", "\ufeffx"],
    *["ü", "e\u0301", "日本", "\U0001f600", "\uffff", "1", "01", "007"],
]
ODD_DATES = [
    *[None, "infinity", "-infinity", "2200-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z"],
    *["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.5Z"],
]
# Of the release that let Postgres split and sort.
GOLDEN = {
    "hash": "b36a7881be981e25f3bda23241743c45d481309c29f778215b8b3d3faa04f542",
    "temporal": "6d92d87f7b6b70a392c9fba324a0e47eab26e59f246c18cf4ca4cfc35ae33ec2",
    "leave_last": "354d31ff7b8e2f3639a8014df7a32ee921de840355f9282d86d3ecf5be2eed91",
    "given": "ce4232bb6cb5adf0e1dc2e33cedb7f32ce7f074cf625f83897664f9c345241e7",
}


def odd_ratings() -> pd.DataFrame:
    """Return 1,000 ratings in no order, many of one moment or of two that lie a microsecond apart.

    Each user has some, and the last two have one each.
    """
    generator = np.random.default_rng(3)
    users = [*ODD_IDS, *(f"u{number}" for number in range(20))]
    items = [*ODD_IDS[::-1], *(f"i{number}" for number in range(20))]
    pairs = generator.permutation(len(users) * len(items))[:1_000]
    user = np.append(pairs // len(items), [len(users), len(users) + 1])
    item = np.append(pairs % len(items), [0, 1])
    n = len(user)

    moment = pd.Timestamp("2020-01-01T00:00:00Z")
    seconds = pd.to_timedelta(generator.integers(0, 200, n), "s")
    dates: list[str | None] = [
        (moment + second + pd.Timedelta(int(micro), "us")).isoformat()
        for second, micro in zip(seconds, generator.integers(0, 2, n), strict=True)
    ]
    for place in range(0, n, 5):
        dates[place] = ODD_DATES[place // 5 % len(ODD_DATES)]
    return pd.DataFrame(
        {
            "user_id": [[*users, "one", "\U0001f600one"][row] for row in user],
            "item_id": [items[row] for row in item],
            "rating": np.where(np.arange(n) % 2, 3.5, generator.normal(size=n) * 1e3),
            "rated_at": dates,
            "side": generator.choice(np.array(["train", "test", None], dtype=object), n),
        }
    )


def snapshot_of(engine: Engine, config: SplitConfig) -> Snapshot:
    """Return what the split takes from the warehouse."""
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        return take_snapshot(connection, config)


@pytest.mark.parametrize("protocol", GOLDEN)
def test_a_snapshot_is_what_it_was_in_earlier_releases(engine: Engine, protocol: str) -> None:
    load(engine, odd_ratings())
    config = SplitConfig(protocol=protocol, test_fraction=0.2, seed=5)

    assert content_hash(snapshot_of(engine, config)) == GOLDEN[protocol]


def test_every_rating_comes_out_as_it_lies_in_the_table(engine: Engine) -> None:
    ratings = odd_ratings()
    load(engine, ratings)
    snapshot = snapshot_of(engine, SplitConfig(seed=5))

    assert list(snapshot.users.ids) == sorted(set(ratings["user_id"]))
    assert list(snapshot.items.ids) == sorted(set(ratings["item_id"]))

    values = ratings.set_index(["user_id", "item_id"])["rating"].astype(np.float32).to_dict()
    found = {}
    for side, is_test in ((snapshot.train, False), (snapshot.test, True)):
        place = side.user.astype(np.int64) * len(snapshot.items) + side.item
        assert (np.diff(place) > 0).all()

        user_ids = snapshot.users.ids[side.user]
        item_ids = snapshot.items.ids[side.item]
        for user_id, item_id, value in zip(user_ids, item_ids, side.value, strict=True):
            assert (split_bucket(user_id, item_id, 5) < 3_000) == is_test
            found[user_id, item_id] = value
    assert found == values


def test_the_settings_of_the_server_change_nothing(engine: Engine) -> None:
    load(engine, odd_ratings())
    config = SplitConfig(protocol="temporal", test_fraction=0.2, seed=5)
    with transaction(engine, isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SET LOCAL extra_float_digits = -5"))
        connection.execute(sa.text("SET LOCAL datestyle = 'German'"))
        connection.execute(sa.text("SET LOCAL max_parallel_workers_per_gather = 4"))
        connection.execute(sa.text("SET LOCAL min_parallel_table_scan_size = 0"))
        connection.execute(sa.text("SET LOCAL parallel_setup_cost = 0"))
        snapshot = take_snapshot(connection, config)

    assert content_hash(snapshot) == GOLDEN["temporal"]


def test_postgres_puts_the_hash_into_the_statement_that_asks_for_it(engine: Engine) -> None:
    query = "EXPLAIN VERBOSE SELECT mf.split_bucket(user_id, item_id, 1) FROM mf.ratings"
    with transaction(engine) as connection:
        plan = "\n".join(connection.scalars(sa.text(query)))

    # As a function of its own it takes eight times as long.
    assert "sha256" in plan
    assert "split_bucket" not in plan


def test_the_hash_is_the_same_before_and_after_it_was_rewritten(
    engine: Engine, warehouse_url: str
) -> None:
    query = sa.text("SELECT mf.split_bucket(user_id, item_id, :seed) FROM mf.ratings")
    load(engine, odd_ratings())
    found = []
    for revision in ("0013", "head"):
        migrate(warehouse_url, revision)
        with transaction(engine) as connection:
            found.append(list(connection.scalars(query, {"seed": -7})))

    assert found[0] == found[1]
