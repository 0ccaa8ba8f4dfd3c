"""What readers can ask beside a user's list: similar items, popular items, an item's audience."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core import pipeline
from mf_core.errors import ConfigError, DatabaseError
from mf_core.publishing import publish
from mf_core.publishing.recommend import POPULAR_DAYS
from mf_core.warehouse import readers, tables, transaction

from .test_publish import as_reader, publish_one, rows
from .worlds import N_ITEMS, World, load, make_ratings, make_world

ALL = "SELECT * FROM mf.{}"
# Every item's audience is what a look through all lists finds, in that order.
AUDIENCE = "SELECT user_id, rank FROM mf.audience(:item, :n)"
LOOK_THROUGH = """
SELECT user_id, rank FROM mf.recommendations
WHERE item_id = :item
ORDER BY rank, user_id
LIMIT :n
"""
COUNTED = """
SELECT item_id, count(*) AS score
FROM mf.ratings
WHERE rating >= 4
    AND rated_at > (SELECT max(rated_at) FROM mf.ratings) - make_interval(days => :days)
GROUP BY item_id
ORDER BY score DESC, item_id
"""


def item(number: int) -> str:
    return f"i{number:03d}"


ITEMS = [item(number) for number in range(N_ITEMS)]
ATTRIBUTES: dict[str, object] = {
    name: {
        "genres": ["even", "number"] if number % 2 == 0 else ["odd", "number"],
        "shelf": "left" if number < 10 else "right",
        "year": 1950 + number,
        "sizes": [number, number + 1],
        "rented": number % 3 == 0,
    }
    for number, name in enumerate(ITEMS)
}


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> World:
    """Ratings in the warehouse, and attributes of the items."""
    world = make_world(engine, tmp_path, log=[])
    with transaction(engine) as connection:
        described = [{"item_id": name, "attributes": has} for name, has in ATTRIBUTES.items()]
        connection.execute(sa.insert(tables.items), described)
    return world


@pytest.fixture
def reader(engine: Engine) -> Iterator[Engine]:
    """Engine on the same warehouse as `mf_reader`."""
    made = as_reader(engine.url.render_as_string(hide_password=False))
    yield made
    made.dispose()


def hide(engine: Engine, *items: str) -> None:
    with transaction(engine) as connection:
        for item_id in items:
            readers.hide(connection, item_id, reason="", by="Ada")


def ids(found: list[Any]) -> list[str]:
    """Return the items of a list, whose ranks run from 1."""
    assert [row.rank for row in found] == list(range(1, len(found) + 1))
    return [row.item_id for row in found]


def test_similar_items_are_those_of_the_live_version(
    world: World, engine: Engine, reader: Engine
) -> None:
    version = publish_one(world, "one")
    kept = """
        SELECT rank, similar_item_id, score, model_version FROM mf.similar_items
        WHERE item_id = 'i007' ORDER BY rank
    """
    found = rows(reader, ALL.format("similar('i007')"))
    assert len(found) == 3
    assert found == rows(engine, kept)
    assert {row.model_version for row in found} == {version}
    assert rows(reader, ALL.format("similar(item => 'i007', n => 2)")) == found[:2]
    for nothing in ("similar('i007', 0)", "similar('i007', -1)", "similar('no such item')"):
        assert rows(reader, ALL.format(nothing)) == []


def test_a_hidden_item_is_like_nothing_and_nothing_is_like_it(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    first, *others = ids(rows(reader, ALL.format("similar('i007')")))
    hide(engine, first)
    assert ids(rows(reader, ALL.format("similar('i007')"))) == others
    assert rows(reader, ALL.format(f"similar('{first}')")) == []


def test_popular_items_of_all_time_are_the_list_for_an_unknown_user(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    counted = rows(engine, COUNTED, days=100_000)
    found = rows(reader, ALL.format("popular(n => 1000)"))
    assert list(zip(ids(found), [row.score for row in found], strict=True)) == [
        tuple(row) for row in counted
    ]
    assert ids(rows(reader, ALL.format("popular()"))) == ids(found)[:5]
    unknown = rows(reader, ALL.format("recommendations_for('nobody', 12)"))
    assert ids(unknown) == ids(found)[:12]
    assert rows(reader, ALL.format("popular(0)")) == rows(reader, ALL.format("popular(-3)")) == []


def test_popular_items_of_the_last_days_count_those_alone(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    before = {}
    for days in POPULAR_DAYS:
        before[days] = rows(reader, ALL.format(f"popular(1000, days => {days})"))
        counted = rows(engine, COUNTED, days=days)
        assert ids(before[days]) == [row.item_id for row in counted]
        assert [row.score for row in before[days]] == [row.score for row in counted]

    # What comes in later is not of this version, nor what goes.
    load(engine, make_ratings(1)[:1].assign(user_id="late", rated_at="2026-01-01", rating=5))
    with transaction(engine) as connection:
        connection.execute(sa.text("DELETE FROM mf.ratings WHERE user_id < 'u030'"))
    for days, found in before.items():
        assert rows(reader, ALL.format(f"popular(1000, days => {days})")) == found


CATEGORIES = [
    ("genres", "even", ITEMS[::2]),
    ("genres", "number", ITEMS),
    ("shelf", "left", ITEMS[:10]),
    ("year", "1951", ITEMS[1:2]),
    ("sizes", "7", ITEMS[6:8]),
    ("rented", "true", ITEMS[::3]),
    ("genres", "ev", []),
    ("genres", '["even", "number"]', []),
    ("no such", "even", []),
    ("100%", "'", []),
]


def test_popular_items_of_a_category(world: World, reader: Engine) -> None:
    publish_one(world, "one")
    everything = ids(rows(reader, ALL.format("popular(1000)")))
    of_month = ids(rows(reader, ALL.format("popular(1000, 30)")))
    of_category = "SELECT * FROM mf.popular({}, attribute => :attribute, value => :value)"
    for attribute, value, chosen in CATEGORIES:
        asked = {"attribute": attribute, "value": value}
        found = ids(rows(reader, of_category.format("1000"), **asked))
        assert found == [name for name in everything if name in chosen], asked
        two = ids(rows(reader, of_category.format("2, 30"), **asked))
        assert two == [name for name in of_month if name in chosen][:2], asked


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("days => 14", "expected days => 7 or days => 30, got 14"),
        ("days => 0", "got 0"),
        ("days => -7", "got -7"),
        ("attribute => 'genres'", "expected attribute and value together"),
        ("value => 'even'", "expected attribute and value together"),
    ],
)
def test_what_popular_can_not_tell_is_refused(reader: Engine, arguments: str, says: str) -> None:
    with pytest.raises((DatabaseError, sa.exc.DBAPIError), match=says):
        rows(reader, ALL.format(f"popular({arguments})"))


def test_ratings_without_times_make_no_list_of_the_last_days(
    engine: Engine, reader: Engine, tmp_path: Path
) -> None:
    publish_one(make_world(engine, tmp_path, make_ratings().assign(rated_at=None)), "one")
    assert len(rows(reader, ALL.format("popular()"))) == 5
    for days in POPULAR_DAYS:
        assert rows(reader, ALL.format(f"popular(days => {days})")) == []


def test_popular_items_skip_what_is_hidden_and_stay_full(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    for call in ("popular(1000)", "popular(1000, 7)", "popular(1000, 30)"):
        found = ids(rows(reader, ALL.format(call)))
        hide(engine, *found[:2])
        assert ids(rows(reader, ALL.format(call))) == found[2:]
    assert len(rows(reader, ALL.format("popular()"))) == 5


def audiences(engine: Engine, reader: Engine, n: int | None) -> dict[str, list[Any]]:
    """Return every item's audience, which is what a look through all lists finds."""
    found = {name: rows(reader, AUDIENCE, item=name, n=n) for name in ITEMS}
    assert found == {name: rows(engine, LOOK_THROUGH, item=name, n=n) for name in ITEMS}
    return found


def test_an_items_audience_is_whose_lists_it_leads(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    everybody = audiences(engine, reader, None)
    assert sum(map(len, everybody.values())) == len(rows(engine, ALL.format("recommendations")))
    for n in (0, 1, 4):
        assert audiences(engine, reader, n) == {
            name: found[:n] for name, found in everybody.items()
        }
    assert rows(reader, ALL.format("audience('i001', -1)")) == []
    assert rows(reader, ALL.format("audience('no such item')")) == []

    whole = """
        SELECT user_id, rank, score, predicted_rating, source, model_version
        FROM mf.recommendations WHERE item_id = :item ORDER BY rank, user_id
    """
    for name in ITEMS[:10]:
        assert rows(reader, "SELECT * FROM mf.audience(:item)", item=name) == rows(
            reader, whole, item=name
        )


def test_hidden_items_move_the_places_of_an_audience(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    before = audiences(engine, reader, None)
    by_size = sorted(ITEMS, key=lambda name: len(before[name]), reverse=True)
    for hidden in (by_size[0], by_size[3], by_size[5]):
        hide(engine, hidden)
        now = audiences(engine, reader, None)
        assert now[hidden] == []
        for n in (1, 2, 5, 20):
            audiences(engine, reader, n)
    assert sum(map(len, now.values())) == sum(map(len, before.values()))
    assert now != before


def test_who_is_forgotten_appears_nowhere_at_once(
    world: World, engine: Engine, reader: Engine
) -> None:
    publish_one(world, "one")
    (leader, *_) = rows(reader, "SELECT user_id, item_id FROM mf.recommendations WHERE rank = 1")
    with transaction(engine) as connection:
        connection.execute(sa.insert(tables.forgotten_users), {"user_id": leader.user_id})
    for _ in range(2):
        audiences(engine, reader, None)
        listed = rows(reader, "SELECT user_id FROM mf.recommendations")
        told = rows(reader, "SELECT user_id FROM mf.audience(:item)", item=leader.item_id)
        assert leader.user_id not in {row.user_id for row in [*listed, *told]}
        own = rows(reader, "SELECT source FROM mf.recommendations_for(:user)", user=leader.user_id)
        assert {row.source for row in own} == {"popular"}
        hide(engine, ITEMS[0])


def test_all_of_it_changes_with_the_lists_and_goes_back_with_them(
    world: World, engine: Engine, reader: Engine
) -> None:
    calls = ("similar('i007')", "popular()", "popular(days => 7)", "audience('i007', NULL)")

    def look() -> list[Any]:
        return [rows(reader, ALL.format(call)) for call in calls]

    def seen() -> set[int]:
        return {row.model_version for found in look() for row in found}

    assert look() == [[], [], [], []]
    one = publish_one(world, "one")
    before = look()
    assert seen() == {one}

    newer = make_ratings()[:500].assign(rated_at="2021-01-01T00:00:00+00:00")
    load(engine, newer.assign(user_id="n" + newer["user_id"]))
    two = publish_one(world, "two")
    assert seen() == {two}
    assert all(now != then for now, then in zip(look(), before, strict=True))

    assert pipeline.rollback(world.place).model_version == one
    assert look() == before


def test_one_transaction_of_a_reader_sees_one_version_in_all_of_it(
    world: World, reader: Engine
) -> None:
    one = publish_one(world, "one")
    calls = ("similar('i007')", "popular()", "audience('i007', NULL)", "recommendations")
    with transaction(reader, isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SELECT * FROM mf.recommendations LIMIT 1"))
        publish_one(world, "two")
        for call in calls:
            found = connection.execute(sa.text(ALL.format(call))).all()
            assert {row.model_version for row in found} == {one}, call


def test_lists_of_retired_versions_leave_nothing_behind(world: World, engine: Engine) -> None:
    small = world.with_settings(publish__keep_versions=1)
    last = [publish_one(small, f"run{n}") for n in range(2)][-1]
    for table in ("popular_items", "similar_items"):
        kept = rows(engine, f"SELECT DISTINCT model_version FROM mf.{table}")
        assert kept == [(last,)]


def test_a_versions_table_is_indexed_by_item(world: World, engine: Engine) -> None:
    version = publish_one(world, "one")
    name = publish.table_name(version)
    indexes = rows(
        engine, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'mf' AND tablename = :n", n=name
    )
    assert any(row.indexdef.endswith("(item_id, rank, user_id)") for row in indexes)


def test_who_may_not_read_lists_may_not_ask_for_an_audience(engine: Engine) -> None:
    functions = (
        "similar(text, integer)",
        "popular(integer, integer, text, text)",
        "audience(text, integer)",
    )
    for function in functions:
        allowed = "SELECT has_function_privilege(:role, :function, 'EXECUTE')"
        for role, may in (("mf_reader", True), ("mf_monitor", False)):
            found = rows(engine, allowed, role=role, function=f"mf.{function}")
            assert found == [(may,)], (role, function)


def test_readers_may_not_read_what_the_functions_read(reader: Engine) -> None:
    for table in ("ratings", "items", "similar_items", "popular_items", "forgotten_users"):
        with pytest.raises(ConfigError, match="permission denied"):
            rows(reader, f"SELECT 1 FROM mf.{table}")
