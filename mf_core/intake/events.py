"""Events into `mf.events`, and what they come to for each pair.

    staged rows -> a sum per pair and type -> mf.events, by source -> weighed, capped -> latest

`mf.events` keeps what each source has brought, unweighed. So a source that comes again takes the
place of what it brought before, other sources stay, and other weights need no file again. `latest`
is made of all of it each time, and stands for what `mf.ratings` is to be.
"""

import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.config.weights import OTHERS
from mf_core.intake.batches import is_replacement
from mf_core.intake.bulk import analyze_if_many, is_empty, key_built_last
from mf_core.intake.repeats import compare
from mf_core.sources.source import RatingsSource
from mf_core.sources.weighing import weights_of, without_weight
from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import sql

_SHOWN_SOURCES = 5

_FORGET = """
DELETE FROM {mf}.events
WHERE user_id IN (SELECT user_id FROM {mf}.forgotten_users)
"""

# Sums are made as decimals: they are the same in whatever order the rows come, and ten times .1
# is 1. A pair with events on both sides of a given split is one of the training side.
_DELIVERED = """
CREATE TEMPORARY TABLE delivered ON COMMIT DROP AS
SELECT
    user_id,
    item_id,
    event,
    sum(rating::numeric)::double precision AS amount,
    timestamptz 'epoch' + max(rated_us) * interval '1 microsecond' AS last_at,
    max(side) AS side
FROM staged
GROUP BY user_id, item_id, event
"""

_REMOVE_OTHERS = "DELETE FROM {mf}.events WHERE source_id <> :source_id"

_REMOVE_GONE = """
DELETE FROM {mf}.events AS e
WHERE e.source_id = :source_id AND NOT EXISTS (
    SELECT FROM delivered AS d
    WHERE (d.user_id, d.item_id, d.event) = (e.user_id, e.item_id, e.event)
)
"""

_UPDATE = """
UPDATE {mf}.events AS e
SET amount = d.amount, last_at = d.last_at, side = d.side
FROM delivered AS d
WHERE e.source_id = :source_id
    AND (d.user_id, d.item_id, d.event) = (e.user_id, e.item_id, e.event)
    AND (e.amount, e.last_at, e.side) IS DISTINCT FROM (d.amount, d.last_at, d.side)
"""

_ADD = """
UPDATE {mf}.events AS e
SET amount = (e.amount::numeric + d.amount::numeric)::double precision,
    last_at = greatest(e.last_at, d.last_at),
    side = greatest(e.side, d.side)
FROM delivered AS d
WHERE e.source_id = :source_id
    AND (d.user_id, d.item_id, d.event) = (e.user_id, e.item_id, e.event)
"""

_INSERT = """
INSERT INTO {mf}.events (user_id, item_id, event, source_id, amount, last_at, side)
SELECT d.user_id, d.item_id, d.event, :source_id, d.amount, d.last_at, d.side
FROM delivered AS d
%s
ORDER BY d.user_id, d.item_id, d.event
"""

_INSERT_ALL = _INSERT % ""

_INSERT_NEW = (
    _INSERT
    % """
WHERE NOT EXISTS (
    SELECT FROM {mf}.events AS e
    WHERE e.source_id = :source_id
        AND (d.user_id, d.item_id, d.event) = (e.user_id, e.item_id, e.event)
)
"""
)

_COUNT_TYPES = "SELECT event, count(*) AS n FROM {mf}.events GROUP BY event ORDER BY 2 DESC, 1"

# A pair is there if anything counts for it, though it may come to 0. What counts nothing is no
# event: neither its time nor its side says anything.
_SUM = """
CREATE TEMPORARY TABLE latest ON COMMIT DROP AS
SELECT
    user_id,
    item_id,
    sum(counted)::double precision AS rating,
    max(last_at) AS rated_at,
    max(side) AS side
FROM (
    SELECT
        e.user_id,
        e.item_id,
        max(e.last_at) AS last_at,
        max(e.side) AS side,
        greatest(-CAST(:cap AS numeric), least(CAST(:cap AS numeric), sum(e.amount::numeric)))
            * coalesce(weights.value::numeric, CAST(:others AS numeric)) AS counted
    FROM {mf}.events AS e
    LEFT JOIN jsonb_each_text(CAST(:weights AS jsonb)) AS weights ON weights.key = e.event
    GROUP BY e.user_id, e.item_id, e.event, weights.value
) AS of_one_type
WHERE counted <> 0
GROUP BY user_id, item_id
"""


@dataclass(frozen=True)
class Latest:
    """What the table `latest` was made of.

    Attributes:
        refusal: why it was not made; empty: it was.
        n_sums: what the staged events come to, one a pair and a type.
        n_pairs: how many rows `latest` has, one a pair.
        notes: what people are to know of it.
    """

    refusal: str = ""
    n_sums: int = 0
    n_pairs: int = 0
    notes: tuple[str, ...] = ()


def add_up(
    connection: Connection, source: RatingsSource, config: Config, *, is_read: bool
) -> Latest:
    """Bring the staged events into `mf.events`, and make `latest`: the sums of all events.

    After a refusal the caller takes back what was written.

    Args:
        connection: in the transaction of the ingest, with the rows in `staged`.
        source: where they came from.
        config: its section `data` is used.
        is_read: whether rows were staged; otherwise the events are there already.
    """
    connection.execute(sql(connection, _FORGET))
    kept = (
        _keep(connection, source, config)
        if is_read
        else Latest(notes=("loaded before, and now summed anew",))
    )
    if kept.refusal:
        return kept
    refusal, n_pairs = _sum(connection, source, config)
    return Latest(refusal, kept.n_sums, n_pairs, (*kept.notes, *_sources_note(connection)))


def clear_events(connection: Connection) -> None:
    """Remove all events, where ratings take their place."""
    connection.execute(sa.delete(t.events))
    connection.execute(sa.delete(t.event_sources))


def _keep(connection: Connection, source: RatingsSource, config: Config) -> Latest:
    """Bring the staged events into `mf.events`, or say why not."""
    adds = config.data.ingest_mode == "add"
    source_id = _source_id(connection, source)
    values = {"source_id": source_id}
    n_sums = connection.execute(sql(connection, _DELIVERED)).rowcount
    connection.execute(sa.text("ANALYZE delivered"))

    notes: tuple[str, ...] = ()
    if is_replacement(config):
        connection.execute(sql(connection, _REMOVE_OTHERS), values)
        connection.execute(
            sa.delete(t.event_sources).where(t.event_sources.c.source_id != source_id)
        )
    else:
        refusal, notes = compare(connection, source, config, source_id, n_sums)
        if refusal:
            return Latest(refusal)

    n_written = 0
    if is_empty(connection, t.events):
        with key_built_last(connection, t.events):
            n_written = connection.execute(sql(connection, _INSERT_ALL), values).rowcount
    else:
        statements = [_ADD, _INSERT_NEW] if adds else [_REMOVE_GONE, _UPDATE, _INSERT_NEW]
        for statement in statements:
            n_written += connection.execute(sql(connection, statement), values).rowcount
    analyze_if_many(connection, t.events, n_written, n_sums)
    _set_contents(connection, source_id, source.fingerprint, adds=adds)
    return Latest("", n_sums, notes=notes)


def _source_id(connection: Connection, source: RatingsSource) -> int:
    """Return the number of the source, which is new if it has none."""
    s = t.event_sources
    has_this_name = s.c.uri == source.identity
    look_up = sa.select(s.c.source_id).where(has_this_name)
    known = connection.scalar(look_up)
    if known is not None:
        return int(known)

    new = sa.insert(s).values(uri=source.identity, contents=[])
    made = connection.execute(new.returning(s.c.source_id))
    return int(made.scalar_one())


def _set_contents(connection: Connection, source_id: int, content: str, *, adds: bool) -> None:
    """Write of which contents the source's events are."""
    s = t.event_sources
    contents = sa.func.array_append(s.c.contents, content) if adds else [content]
    connection.execute(sa.update(s).where(s.c.source_id == source_id).values(contents=contents))


def _sum(connection: Connection, source: RatingsSource, config: Config) -> tuple[str, int]:
    """Make `latest` of all events; return why that can't be done ("": it is), and its rows."""
    rows = connection.execute(sql(connection, _COUNT_TYPES))
    found = {row.event: row.n for row in rows}
    weights = weights_of(config.data)
    if problem := without_weight(found, weights):
        return f"{source.uri}: {problem} Nothing was changed.", 0

    cap = config.data.event_cap
    values = {
        "weights": json.dumps(weights),
        "others": weights.get(OTHERS, 0),
        "cap": "Infinity" if cap is None else cap,
    }
    return "", connection.execute(sql(connection, _SUM), values).rowcount


def _sources_note(connection: Connection) -> tuple[str, ...]:
    """Return which sources' events count together, where there are several."""
    s = t.event_sources
    uris = connection.execute(sa.select(s.c.uri).order_by(s.c.source_id)).scalars().all()
    if len(uris) < 2:
        return ()
    shown = ", ".join(uris[:_SHOWN_SOURCES]) + (", ..." if uris[_SHOWN_SOURCES:] else "")
    return (f"events of {len(uris)} sources count together: {shown}",)
