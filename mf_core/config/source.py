"""The settings of the source of ratings."""

import codecs
import re
from datetime import datetime
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationInfo, field_validator, model_validator

from mf_core.config.field import Section, setting
from mf_core.redaction import redacted

Kind = Literal["ratings", "events"]
"""What a source holds, as the setting `data.kind` says it."""

SOURCE_URIS = ("uri", "test_uri", "items_uri", "users_uri")
"""The settings of the section `source` that name a place."""

REACHING = (*SOURCE_URIS, "query", "database_url_env", "connection")
"""Those that decide what a run reaches outside the project; the others say how it is read."""


def uris_in(text: str) -> list[str]:
    """Return the paths or URIs that a setting names, one a line.

    A line, as a URI may hold any other separator. One alone is taken as it is.
    """
    if "\n" not in text:
        return [text]
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line]


class SourceConfig(Section):
    """Where the ratings come from."""

    name: str = setting(
        "",
        shapes="nothing",
        description="Name of a source that the settings file describes in `[sources.NAME]`; empty: "
        "the settings below.",
        max_length=200,
    )
    uri: str = setting(
        "ml-100k",
        shapes="nothing",
        description="Path or URI of the ratings (any fsspec URI; a file, a folder, a zip, or a "
        "pattern such as `folder/*.csv`; several: one a line), `ml-100k` for the demo's download, "
        "or `sql` for a query on another database.",
        min_length=1,
        max_length=2000,
    )
    layout: Literal["auto", "movielens", "csv", "headerless", "json", "parquet"] = setting(
        "auto",
        shapes="nothing",
        description="How to read the file; `auto` decides by its name, first line and first bytes. "
        "`headerless`: text whose first line is a row; columns are user, item, rating, time, or "
        "named by their number from 1. A query's result needs none.",
    )
    encoding: str = setting(
        "utf-8",
        shapes="nothing",
        description="Encoding of a text file, such as `cp1252`, `latin-1`, `utf-16-le`; one that "
        "begins with a byte order mark needs none.",
        min_length=1,
        max_length=40,
    )
    delimiter: str = setting(
        "",
        shapes="nothing",
        description="Field separator of a text file; empty: decided from the first line.",
        max_length=4,
    )
    user_column: str = setting(
        "user_id", shapes="nothing", description="Column that holds the user id.", min_length=1
    )
    item_column: str = setting(
        "item_id", shapes="nothing", description="Column that holds the item id.", min_length=1
    )
    rating_column: str = setting(
        "rating",
        shapes="nothing",
        description="Column that holds the rating; not read where data.kind is events.",
        min_length=1,
    )
    event_column: str = setting(
        "",
        shapes="nothing",
        description="Events: column that holds the type, weighed by data.event_weights. Empty: "
        "there are no types.",
    )
    weight_column: str = setting(
        "",
        shapes="nothing",
        description="Events: column that holds how many events a row stands for, or what it "
        "weighs; may be negative. Empty: each row counts 1.",
    )
    time_column: str = setting(
        "timestamp",
        shapes="nothing",
        description="Column that holds the time; `timestamp` may be absent, any other name must be "
        "there. Empty: none.",
    )
    time_format: str = setting(
        "",
        shapes="nothing",
        description="How times are written, as for Python's strptime (such as `%d.%m.%Y %H:%M`); "
        "empty: ISO 8601, or numbers: seconds, milliseconds, microseconds or nanoseconds since "
        "1970, or yyyymmdd.",
        max_length=100,
    )
    time_zone: str = setting(
        "UTC",
        shapes="nothing",
        description="Zone of times that name none, such as `Europe/Berlin`.",
        min_length=1,
        max_length=100,
    )
    side_column: str = setting(
        "",
        shapes="nothing",
        description="Column that says `train` or `test`; only the split protocol `given` goes by "
        "it. Empty: none.",
    )
    ids: Literal["numbers", "text"] = setting(
        "numbers",
        shapes="nothing",
        description="`numbers`: in a column of texts that are all whole numbers, 12.0 is loaded as "
        "12. `text`: texts stay as they are.",
    )
    not_rated: float | None = setting(
        None,
        shapes="nothing",
        description="Rating of rows that are no ratings (often 0 or -1): they are counted and left "
        "out. Empty: there are none.",
    )
    test_uri: str = setting(
        "",
        shapes="nothing",
        description="Second file whose rows are the test side; only the split protocol `given` "
        "goes by it. Empty: none.",
    )
    items_uri: str = setting(
        "",
        shapes="nothing",
        description="File of item ids, titles and attributes; empty: beside the ratings, if there.",
    )
    users_uri: str = setting(
        "",
        shapes="nothing",
        description="File of user ids and attributes; empty: beside the ratings, if there.",
    )
    sha256: str = setting(
        "",
        shapes="nothing",
        description="Expected sha256 of the ratings file, packed or unpacked; of several files, "
        "that of their sha256 sums, one a line, in reading order. Empty: not checked.",
        pattern="^([0-9a-f]{64})?$",
    )
    query: str = setting(
        "",
        shapes="nothing",
        description="With uri `sql`: the SELECT whose columns are named as above. Empty with any "
        "other uri.",
    )
    connection: str = setting(
        "",
        shapes="nothing",
        description="In a DAG: the Airflow connection of the database (Postgres), with uri `sql`; "
        "or of the store (aws, google_cloud_platform), with a uri s3:// or gs://. Empty: "
        "`database_url_env` says it, or the store's client finds its credentials by itself.",
    )
    database_url_env: str = setting(
        "MF_SOURCE_DATABASE_URL",
        shapes="nothing",
        description="With uri `sql`: the environment variable that holds the SQLAlchemy URL. It "
        "can't be set by a trigger.",
        min_length=1,
    )
    watermark_column: str = setting(
        "",
        shapes="nothing",
        description="With uri `sql`: column of the query's result that rises with every change of "
        "a row (a time or a number, such as `updated_at`). A merge asks only for rows from the "
        "last value that was loaded on, and for those without one. Empty: all rows are loaded.",
        max_length=200,
    )
    watermark_overlap: float = setting(
        3600.0,
        shapes="nothing",
        description="How far before that value rows are asked for again, in seconds (of numbers, "
        "in their unit): for rows that are committed late.",
        ge=0,
        le=1e18,
    )
    unchanged: Literal["content", "stat"] = setting(
        "content",
        shapes="nothing",
        description="How a merge of ratings knows a file that it has loaded before, and does not "
        "read again. `content`: by its checksum. `stat`: by its size, its inode and times or, in a "
        "store, its etag; such a file is not fetched either.",
    )
    reload: bool = setting(
        False,
        shapes="nothing",
        description="Load all of the source, whatever was loaded of it before (ratings only).",
    )
    chunk_rows: int = setting(
        500_000,
        shapes="nothing",
        description="Rows read and loaded at a time, about; a text file is read in blocks of 64 "
        "KiB to 256 MiB, whatever this says.",
        ge=1_000,
        le=20_000_000,
    )

    @field_validator("uri", "test_uri")
    @classmethod
    def _lines_name_places(cls, value: str, info: ValidationInfo) -> str:
        # A field of several lines may leave an empty one behind the last.
        places = "\n".join(uris_in(value))
        if value and not places:
            raise ValueError(
                f"source.{info.field_name} has empty lines only; expected a path or a URI, or "
                "several, one a line"
            )
        return places

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str) -> str:
        try:
            # Some codecs make bytes of bytes, and some are for names of hosts only.
            b"\x81".decode(value, errors="replace")
            "".join(codecs.iterdecode([], value))
        except (LookupError, ValueError, UnicodeError):
            raise ValueError(
                f"source.encoding {value!r:.60} is no encoding of text that Python knows; "
                "such are utf-8, utf-16, cp1252, latin-1, shift_jis"
            ) from None
        return value

    @model_validator(mode="after")
    def _times_can_be_read(self) -> Self:
        try:
            ZoneInfo(self.time_zone)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise ValueError(
                f"source.time_zone: expected a zone such as Europe/Berlin or UTC, got "
                f"{self.time_zone!r}"
            ) from None
        if self.time_format and not _is_time_format(self.time_format):
            raise ValueError(
                "source.time_format: expected a format of Python's strptime that has a year, such "
                f"as %d.%m.%Y %H:%M, got {self.time_format!r}"
            )
        return self

    @model_validator(mode="after")
    def _query_goes_with_sql(self) -> Self:
        wants_query = self.uri == "sql"
        has_query = bool(self.query.strip())
        if wants_query and not has_query:
            raise ValueError(
                "source.query is empty, but source.uri is sql; set the SELECT to load, or name "
                "another source"
            )
        if has_query and not wants_query:
            shown = redacted(self.uri)
            raise ValueError(
                f"source.query is set, but source.uri is {shown!r:.80}, so it would not be run; "
                "set source.uri to sql, or empty source.query"
            )
        return self

    @model_validator(mode="after")
    def _watermark_goes_with_sql(self) -> Self:
        if self.watermark_column and self.uri != "sql":
            shown = redacted(self.uri)
            raise ValueError(
                f"source.watermark_column is {self.watermark_column!r:.80}, but source.uri is "
                f"{shown!r:.80}; it is a column of source.query. Of files, those that were loaded "
                "before are known without it: empty it"
            )
        return self


def _is_time_format(text: str) -> bool:
    """Return whether strptime reads what strftime writes in the format, with the right year."""
    then = datetime(2001, 2, 3, 4, 5, 6, tzinfo=ZoneInfo("UTC"))
    try:
        read = datetime.strptime(then.strftime(text), text)
    except (ValueError, re.error):
        return False
    return read.year == then.year
