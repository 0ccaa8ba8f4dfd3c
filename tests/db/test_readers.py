"""What readers see: the view and the function tell the same."""

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from mf_core.warehouse import transaction


def columns(engine: Engine, query: str) -> list[str]:
    with transaction(engine) as connection:
        return list(connection.execute(sa.text(query)).keys())


def test_the_function_gives_every_column_of_the_view_but_the_user(engine: Engine) -> None:
    of_view = columns(engine, "SELECT * FROM mf.recommendations")
    of_function = columns(engine, "SELECT * FROM mf.recommendations_for('somebody')")
    assert of_view[0] == "user_id"
    assert of_function == of_view[1:]
