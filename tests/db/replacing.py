"""Another ingest that comes between what an ingest has looked up and its turn."""

import threading
import time
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Engine


def load_while_replaced(engine: Engine, load: Callable[[], object], log: Sequence[str]) -> None:
    """Run `load`, and empty the warehouse as a replacement by another source does, before its turn.

    Args:
        engine: the warehouse.
        load: an ingest, which runs in a thread of its own.
        log: the lines that it has logged so far.
    """
    thread = threading.Thread(target=load)
    with engine.begin() as other:
        other.execute(sa.text("LOCK TABLE mf.ingest_batches IN SHARE ROW EXCLUSIVE MODE"))
        thread.start()
        while not any("is locked, by another ingest" in line for line in log):
            time.sleep(0.05)
        other.execute(sa.text("DELETE FROM mf.source_parts"))
        other.execute(sa.text("DELETE FROM mf.ratings"))
    thread.join()
