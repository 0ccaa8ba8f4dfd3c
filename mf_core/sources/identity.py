"""What tells one source, one content and one way of reading from others: hashes, mostly."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from mf_core import __version__
from mf_core.config import Config, SourceConfig, uris_in
from mf_core.redaction import redacted
from mf_core.sources.reach import (
    DEMO_URI,
    LOCAL_SCHEMES,
    SQL_URI,
    is_chained,
    local_path,
    scheme_of,
)

# Settings that change what the same bytes turn into.
_READING_SETTINGS = (
    "layout",
    "encoding",
    "delimiter",
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "side_column",
    "ids",
    "not_rated",
    "time_format",
    "time_zone",
)
READING_EVENTS = ("event_column", "weight_column")


def joint_sha256(hashes: list[str]) -> str:
    """Return the only checksum, or one over all of them in order, one a line."""
    if len(hashes) == 1:
        return hashes[0]
    joined = "\n".join(hashes)
    return hashlib.sha256(joined.encode()).hexdigest()


def identity_of_source(source: SourceConfig) -> str:
    """Return what stays the same from night to night: places, or a query and its database."""
    if source.uri == SQL_URI:
        query = " ".join(source.query.split())
        place = source.connection or source.database_url_env
        return f"{SQL_URI} {place} {hashlib.sha256(query.encode()).hexdigest()[:16]}"
    return "\n".join(_place(uri) for uri in uris_in(source.uri))


def _place(uri: str) -> str:
    """Return one name for a place that has many, as ./plays.csv and file:///data/plays.csv."""
    if uri == DEMO_URI or scheme_of(uri) not in ("", *LOCAL_SCHEMES) or is_chained(uri):
        return redacted(uri)
    return os.path.abspath(local_path(uri))


def fingerprint_of(config: Config, **content: Any) -> str:
    """Return a hash over `content` and over the settings that change how it is read."""
    return _hash_of({**_reading_settings(config), **content})


def reading_of(config: Config, side: str | None, constants: Mapping[str, str]) -> str:
    """Return a hash over all that changes how one part is read, this release of the code included.

    Args:
        config: its settings.
        side: the side that all its rows are on.
        constants: the columns that its folders give to all its rows.
    """
    return fingerprint_of(
        config,
        side=side,
        constants=dict(constants),
        watermark_column=config.source.watermark_column,
        release=__version__,
    )


def _reading_settings(config: Config) -> dict[str, Any]:
    """Return the settings that change what the same bytes turn into."""
    settings: dict[str, Any] = {"scale": [config.data.scale_low, config.data.scale_high]}
    names = [*_READING_SETTINGS]
    if config.data.kind == "events":
        settings["scale"] = None
        names += READING_EVENTS
    for name in names:
        settings[name] = getattr(config.source, name)
    return settings


def _hash_of(settings: Mapping[str, Any]) -> str:
    identity = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()
