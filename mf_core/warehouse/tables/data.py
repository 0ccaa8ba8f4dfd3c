"""What is loaded: batches, ratings, attributes, and who or what is left out."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from mf_core.warehouse.tables.columns import ID, TIME, counter, metadata

ingest_batches = Table(
    "ingest_batches",
    metadata,
    Column(
        "batch_id",
        BigInteger,
        Identity(),
        primary_key=True,
        comment="Number of the batch, in order of loading.",
    ),
    Column("source_uri", Text, nullable=False, comment="Where the rows came from."),
    Column("content_sha256", Text, nullable=False, comment="sha256 of the source's bytes."),
    Column(
        "fingerprint",
        Text,
        nullable=False,
        comment="sha256 of content and reading settings; equal means nothing new.",
    ),
    Column(
        "mode",
        Text,
        CheckConstraint("mode IN ('merge', 'replace', 'add')", name="mode"),
        nullable=False,
        comment="merge, replace or add.",
    ),
    Column(
        "state",
        Text,
        CheckConstraint("state IN ('loaded', 'refused')", name="state"),
        nullable=False,
        comment="loaded, or refused as a whole.",
    ),
    Column("started_at", TIME, nullable=False, comment="When reading began."),
    Column("finished_at", TIME, nullable=False, comment="When the batch was committed."),
    counter("rows_read", "Rows in the source."),
    counter("rows_rejected", "Rows in rejected_ratings."),
    counter(
        "rows_duplicate",
        "Rows that another row of the same source, for the same user and item, replaced; of "
        "events: that are counted in one sum with another.",
    ),
    counter("rows_inserted", "Ratings that were new."),
    counter("rows_updated", "Ratings whose value or date changed."),
    counter("rows_unchanged", "Ratings that stood there already."),
    counter("rows_removed", "Ratings that the source no longer has (replace)."),
    counter("total_ratings", "Ratings in the table after the batch."),
    Column(
        "sums",
        Text,
        comment="Events: the weights and the cap that ratings were made with; NULL: ratings.",
    ),
    Index(None, "fingerprint"),
    comment="One row per batch of ratings that was offered.",
)

ratings = Table(
    "ratings",
    metadata,
    Column("user_id", ID, primary_key=True, comment="The source's user id."),
    Column("item_id", ID, primary_key=True, comment="The source's item id."),
    Column(
        "rating",
        Double,
        nullable=False,
        comment="The rating, on the source's scale; of events, the weighted sum.",
    ),
    Column("rated_at", TIME, comment="When it was given (the last event); NULL: unknown."),
    Column(
        "side",
        Text,
        CheckConstraint("side IN ('train', 'test')", name="side"),
        comment="Side that the source gave the row (split protocol given).",
    ),
    # No foreign key: its check of every row costs two thirds of a load.
    Column("batch_id", BigInteger, nullable=False, comment="Batch that last set the row."),
    comment="The current rating of every (user, item) pair, or the sum of its events.",
)

event_sources = Table(
    "event_sources",
    metadata,
    Column(
        "source_id",
        Integer,
        Identity(),
        primary_key=True,
        comment="Number of the source in events.",
    ),
    Column(
        "uri", Text, nullable=False, unique=True, comment="The source; a query also by its hash."
    ),
    Column(
        "contents",
        ARRAY(Text),
        nullable=False,
        comment="Fingerprints of the contents that its events come from.",
    ),
    comment="Sources whose events count in ratings.",
)

events = Table(
    "events",
    metadata,
    Column("user_id", ID, primary_key=True, comment="The source's user id."),
    Column("item_id", ID, primary_key=True, comment="The source's item id."),
    Column("event", ID, primary_key=True, comment="Type of the events; empty: they have none."),
    # No foreign key, as in ratings.
    Column(
        "source_id",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Source that they come from.",
    ),
    Column("amount", Double, nullable=False, comment="Their number, or the sum of their weights."),
    Column("last_at", TIME, comment="When the last one happened; NULL: unknown."),
    Column(
        "side",
        Text,
        CheckConstraint("side IN ('train', 'test')", name="side"),
        comment="Side that the source gave them (split protocol given).",
    ),
    comment="What a source's events of one type come to for a user and an item.",
)

source_parts = Table(
    "source_parts",
    metadata,
    Column(
        "place",
        ID,
        primary_key=True,
        comment="Where the part lies; of a query, its database and its hash.",
    ),
    Column(
        "reading",
        Text,
        primary_key=True,
        comment="sha256 of the settings that change how it is read.",
    ),
    Column("sha256", Text, nullable=False, comment="sha256 of its content, unpacked."),
    Column(
        "stamp", Text, comment="Its size, and when it was changed or its etag; NULL: not known."
    ),
    Column(
        "header",
        Text,
        nullable=False,
        comment="How its first line was taken: header, guessed (a row, by its look), or empty.",
    ),
    Column(
        "watermark",
        Text,
        comment="Of a query: the largest value of source.watermark_column; NULL: none.",
    ),
    Column("batch_id", BigInteger, nullable=False, comment="Batch that loaded it last."),
    comment="Parts of sources of ratings that are loaded, so that they need not be read again.",
)

rejected_ratings = Table(
    "rejected_ratings",
    metadata,
    Column(
        "batch_id",
        BigInteger,
        ForeignKey(ingest_batches.c.batch_id),
        primary_key=True,
        comment="Batch that held the row.",
    ),
    Column(
        "file", Text, primary_key=True, comment="File, or member of an archive, that held the row."
    ),
    Column(
        "line",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Line number in the file, from 1.",
    ),
    Column("raw", Text, nullable=False, comment="The row as it came; NUL bytes are written \\x00."),
    Column("reason", Text, nullable=False, comment="What was wrong with it."),
    comment="Rows that were not loaded, and why.",
)

items = Table(
    "items",
    metadata,
    Column("item_id", ID, primary_key=True, comment="The source's item id."),
    Column("title", Text, comment="Title for people to read."),
    Column(
        "attributes",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="Whatever else the source says of the item.",
    ),
    comment="What is known of items; optional.",
)

users = Table(
    "users",
    metadata,
    Column("user_id", ID, primary_key=True, comment="The source's user id."),
    Column(
        "attributes",
        JSONB,
        nullable=False,
        server_default="{}",
        comment="Whatever the source says of the user.",
    ),
    comment="What is known of users; optional.",
)

hidden_items = Table(
    "hidden_items",
    metadata,
    Column("item_id", ID, primary_key=True, comment="Item that readers must not see."),
    Column("reason", Text, nullable=False, server_default="", comment="Why."),
    Column(
        "hidden_by", Text, nullable=False, server_default=func.current_user(), comment="Who hid it."
    ),
    Column("hidden_at", TIME, nullable=False, server_default=func.now(), comment="Since when."),
    comment="Items hidden from readers at once, whatever version is live.",
)

forgotten_users = Table(
    "forgotten_users",
    metadata,
    Column("user_id", ID, primary_key=True, comment="User whose ratings are never loaded again."),
    Column("forgotten_at", TIME, nullable=False, server_default=func.now(), comment="Since when."),
    comment="Users that an ingest skips.",
)
