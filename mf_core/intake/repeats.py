"""What a source of events brings: what it brought before, other events, or the same once more.

Events have no number of their own, so that one that is loaded twice counts twice. What can be seen
of that is looked for here, before anything is counted; nothing is written.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from mf_core.config import Config
from mf_core.errors import InputError
from mf_core.intake.batches import is_replacement, last_sums, loaded_batch, sums_of
from mf_core.sources.source import RatingsSource
from mf_core.warehouse import tables as t
from mf_core.warehouse.schema import schema_of, sql

# What the source brought before and does not bring again: it is not there, or its last event lies
# before all of tonight's, as where a source holds the new events only.
_COUNT_GONE = """
SELECT
    count(*),
    count(*) FILTER (WHERE
        d.user_id IS NULL
        OR e.last_at < (
            SELECT timestamptz 'epoch' + min(rated_us) * interval '1 microsecond' FROM staged
        )
    )
FROM {mf}.events AS e
LEFT JOIN delivered AS d ON (d.user_id, d.item_id, d.event) = (e.user_id, e.item_id, e.event)
WHERE e.source_id = :source_id
"""

# The same last event of the same type and pair is taken for the same event; where nothing is
# dated, the same number of them.
_COUNT_REPEATED = """
SELECT count(*)
FROM delivered AS d
WHERE EXISTS (
    SELECT FROM {mf}.events AS e
    WHERE (e.user_id, e.item_id, e.event) = (d.user_id, d.item_id, d.event)
        AND e.last_at IS NOT DISTINCT FROM d.last_at
        AND (d.last_at IS NOT NULL OR e.amount = d.amount)
        AND (:adds OR e.source_id <> :source_id)
)
"""

# The same bytes, counted already as they were read with other settings.
_READ_OTHERWISE = """
SELECT EXISTS (
    SELECT FROM {mf}.ingest_batches AS b
    JOIN {mf}.event_sources AS s ON b.fingerprint = ANY (s.contents)
    WHERE b.content_sha256 = :sha256 AND b.fingerprint <> :fingerprint
        AND (:adds OR s.source_id <> :source_id)
)
"""


# Who has asked to be forgotten since is to be left out of the sums.
_TO_FORGET = """
SELECT EXISTS (SELECT FROM {mf}.events AS e JOIN {mf}.forgotten_users AS f USING (user_id))
"""


def require_same_kind(connection: Connection, config: Config) -> None:
    """Make sure that the warehouse holds what the source does, or is about to be replaced.

    Raises:
        InputError: it holds ratings and the source has events, or the other way round.
    """
    held = _held_kind(connection)
    if held in (None, config.data.kind) or is_replacement(config):
        return
    raise InputError(
        f"data.kind is {config.data.kind}, but {schema_of(connection)}.ratings was made of {held}, "
        "and the two don't mix. Take a catalogue of its own, or load the source once with "
        f"data.ingest_mode=replace, which removes the {held}."
    )


def _held_kind(connection: Connection) -> str | None:
    """Return what the warehouse's ratings were made of, None where there are none."""
    if connection.scalar(sa.select(sa.exists().select_from(t.event_sources))):
        return "events"
    has_ratings = connection.scalar(sa.select(sa.exists().select_from(t.ratings)))
    return "ratings" if has_ratings else None


def find_same_events(connection: Connection, source: RatingsSource, config: Config) -> int | None:
    """Return the batch that loaded the same content, if loading it again would change nothing."""
    if last_sums(connection) != sums_of(config) or not are_counted(connection, source, config):
        return None
    if connection.scalar(sql(connection, _TO_FORGET)):
        return None
    return loaded_batch(connection, source)


def are_counted(connection: Connection, source: RatingsSource, config: Config) -> bool:
    """Return whether the content is in `mf.events` already, under whatever name it came."""
    if connection.scalar(sa.select(t.events.c.source_id).limit(1)) is None:
        return False
    s = t.event_sources
    sources = connection.execute(sa.select(s.c.uri, s.c.contents)).all()
    content = source.fingerprint
    alone = [uri for uri, contents in sources if contents == [content]]
    if is_replacement(config):
        return len(alone) == len(sources)

    among_others = [uri for uri, contents in sources if content in contents]
    if config.data.ingest_mode == "add":
        return bool(among_others)
    # A source that has brought more than this is about to bring this alone.
    return bool(alone) or any(uri != source.identity for uri in among_others)


def compare(
    connection: Connection, source: RatingsSource, config: Config, source_id: int, n_sums: int
) -> tuple[str, tuple[str, ...]]:
    """Compare what is `delivered`, `n_sums` rows, with what is there.

    Returns:
        Why it is refused (empty: it is not), and what people are to know of it.
    """
    adds = config.data.ingest_mode == "add"
    values = {
        "source_id": source_id,
        "adds": adds,
        "sha256": source.content_sha256,
        "fingerprint": source.fingerprint,
    }
    if connection.scalar(sql(connection, _READ_OTHERWISE), values):
        return _read_otherwise(source), ()

    n_repeated = connection.scalar(sql(connection, _COUNT_REPEATED), values) or 0
    refusal = _refuse_repeated(source, config, n_sums, n_repeated)
    if not refusal and not adds:
        total, gone = connection.execute(sql(connection, _COUNT_GONE), values).one()
        refusal = _refuse_gone(source, config, total, gone)
    if refusal or not n_repeated:
        return refusal, ()
    return "", (f"{n_repeated:,} of {n_sums:,} sums were there already, to the same last event",)


def _read_otherwise(source: RatingsSource) -> str:
    return (
        f"{source.uri}: its content was loaded already, read with other settings (source.*), and "
        "would count twice. Nothing was changed. Load all events anew, the first source with "
        "data.ingest_mode=replace."
    )


def _refuse_repeated(source: RatingsSource, config: Config, n_sums: int, n_repeated: int) -> str:
    """Return why the events are taken for those of another source, or an empty text."""
    limit = config.data.max_repeated_share
    if not n_sums or n_repeated / n_sums <= limit:
        return ""
    return (
        f"{source.uri}: {n_repeated:,} of its {n_sums:,} sums of a user, an item and a type "
        f"({n_repeated / n_sums:.1%}) were loaded before, to the same last event, more than "
        f"data.max_repeated_share {limit:.1%} allows: they would count twice. Nothing was changed. "
        "If the source holds all events, under whatever name, load it with "
        "data.ingest_mode=replace; if it holds others, raise the limit for this run."
    )


def _refuse_gone(source: RatingsSource, config: Config, total: int, gone: int) -> str:
    """Return why the source would take away too much of what it brought before, or ""."""
    limit = config.data.max_removed_share
    if not total or gone / total <= limit:
        return ""
    return (
        f"{source.uri}: expected all of its events again, since data.ingest_mode is merge, but "
        f"{gone:,} of the {total:,} sums that it brought before ({gone / total:.1%}) are gone or "
        f"older than all that it has now, more than data.max_removed_share {limit:.1%} allows. "
        "Nothing was changed. If it holds the new events only, set data.ingest_mode=add; if the "
        "others are to go, raise the limit for this run."
    )
