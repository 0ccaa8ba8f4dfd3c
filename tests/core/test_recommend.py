"""What is written for readers has the columns of its table."""

from datetime import UTC, datetime

import numpy as np

from mf_core.config import Config
from mf_core.publishing.recommend import popular_frames, recommendation_tables, similar_frames
from mf_core.warehouse import tables

from .test_metrics import baseline_heads, world


def test_the_rows_for_readers_fill_every_column_of_their_tables() -> None:
    config = Config()
    snapshot = world()
    heads = baseline_heads(config, snapshot)
    users = np.arange(len(snapshot.users), dtype=np.int32)

    [listed] = recommendation_tables(config, heads, users, 1, datetime.now(UTC))
    popular, *_ = popular_frames(config, heads, snapshot.train, 1)
    [similar] = similar_frames(config, heads.lists.ordering, 1)
    for frame, table in (
        (listed.to_pandas(), tables.recommendation_rows),
        (popular, tables.popular_items),
        (similar, tables.similar_items),
    ):
        assert list(frame.columns) == [column.name for column in table.columns], table.name
