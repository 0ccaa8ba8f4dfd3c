"""What readers see: the view and the function tell the same, and nobody is told what he rated."""

from pathlib import Path

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.warehouse import readers, transaction

from .test_cli import Mf
from .test_publish import as_reader, publish_one, rows
from .worlds import N_ITEMS, World, load, make_ratings, make_world

ITEMS = [f"i{number:03d}" for number in range(N_ITEMS)]


def columns(engine: Engine, query: str) -> list[str]:
    with transaction(engine) as connection:
        return list(connection.execute(sa.text(query)).keys())


def test_the_function_gives_every_column_of_the_view_but_the_user(engine: Engine) -> None:
    of_view = columns(engine, "SELECT * FROM mf.recommendations")
    of_function = columns(engine, "SELECT * FROM mf.recommendations_for('somebody')")
    assert of_view[0] == "user_id"
    assert of_function == of_view[1:]


def of_one_user(user_id: str, items: list[str]) -> pd.DataFrame:
    """Return ratings of some items by one user."""
    columns = {"user_id": user_id, "item_id": items, "rating": 4.0}
    return pd.DataFrame({**columns, "rated_at": "2020-01-01T00:00:00+00:00"})


def world_with_bots(engine: Engine, root: Path) -> World:
    """Return a world in which `bot` has rated every item, and `bot_minus1` all but the last."""
    bots = [of_one_user("bot", ITEMS), of_one_user("bot_minus1", ITEMS[:-1])]
    return make_world(engine, root, pd.concat([make_ratings(), *bots]), log=[])


def given(engine: Engine, user_id: str, n: int = N_ITEMS) -> list[str]:
    """Return the items that a reader and the console get for a user, which are the same."""
    url = engine.url.render_as_string(hide_password=False)
    asked = "SELECT item_id FROM mf.recommendations_for(:user, :n)"
    found = []
    for role in ("mf_reader", "mf_console"):
        of_role = as_reader(url.replace("mf_writer", role))
        found.append([item for (item,) in rows(of_role, asked, user=user_id, n=n)])
        of_role.dispose()
    assert found[0] == found[1]
    return found[0]


def test_who_has_rated_everything_is_told_nothing(engine: Engine, tmp_path: Path) -> None:
    publish_one(world_with_bots(engine, tmp_path), "one")
    assert given(engine, "bot") == []
    assert given(engine, "bot_minus1") == ITEMS[-1:]
    assert len(given(engine, "nobody", 5)) == 5

    # The only item that is left gets hidden: now nothing is.
    with transaction(engine) as connection:
        readers.hide(connection, ITEMS[-1], reason="", by="Ada")
    assert given(engine, "bot_minus1") == []
    assert given(engine, "bot") == []
    assert ITEMS[-1] not in given(engine, "nobody")


def test_who_rated_since_the_publication_is_not_told_so(engine: Engine, tmp_path: Path) -> None:
    publish_one(make_world(engine, tmp_path), "one")
    unknown = given(engine, "new")
    assert unknown == given(engine, "nobody")
    load(engine, of_one_user("new", unknown[:7]))
    assert given(engine, "new") == unknown[7:]
    assert given(engine, "new", 3) == unknown[7:10]
    # Whose whole list is hidden gets what is popular, as far as it is news.
    own = given(engine, "u007")
    with transaction(engine) as connection:
        for item_id in own:
            readers.hide(connection, item_id, reason="", by="Ada")
        seen = connection.scalars(
            sa.text("SELECT item_id FROM mf.ratings WHERE user_id = 'u007'")
        ).all()
    left = [item_id for item_id in unknown if item_id not in {*own, *seen}]
    assert left
    assert given(engine, "u007") == left


def test_the_command_says_why_there_is_no_list(engine: Engine, tmp_path: Path) -> None:
    world = world_with_bots(engine, tmp_path)
    url = engine.url.render_as_string(hide_password=False)
    mf = Mf(MF_DATABASE_URL=url, MF_ARTIFACT_ROOT=tmp_path.as_uri())
    mf("recommend", "bot")
    assert "nothing is published yet" in mf.errors
    publish_one(world, "one")
    mf("recommend", "bot")
    assert "has nothing for user 'bot': every item is rated by this user, or hidden" in mf.errors
    assert mf.json("recommend", "bot") == []
    assert [row["item_id"] for row in mf.json("recommend", "bot_minus1")] == ITEMS[-1:]
