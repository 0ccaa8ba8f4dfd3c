"""What columns are called: the one place that knows other people's names for them.

Text files, Parquet, queries and files of items and users all look here.
"""

import re
from collections.abc import Sequence
from typing import Literal

from mf_core.config import Kind, SourceConfig
from mf_core.errors import InputError
from mf_core.sources.chunks import printable

Role = Literal["user", "item", "rating", "time", "side", "weight", "event"]
"""What a column is for; `source.<role>_column` names it."""

Columns = dict[Role, str]
"""The names that the columns have in the source; one that is not there is not in it."""

ROLES: dict[Kind, tuple[Role, ...]] = {
    "ratings": ("user", "item", "rating", "time", "side"),
    "events": ("user", "item", "weight", "time", "side", "event"),
}
"""The columns that are read, by what the source holds."""

NEEDED: dict[Kind, tuple[Role, ...]] = {
    "ratings": ("user", "item", "rating"),
    "events": ("user", "item"),
}
"""Those of them that must be there; so must whatever a setting names."""


# Best first. They count where the setting has its default, and in files of items and users.
USER_NAMES = ("user_id", "user")
ITEM_NAMES = ("item_id", "movie_id", "item")
_ALIASES: dict[Role, tuple[str, ...]] = {"user": USER_NAMES, "item": ITEM_NAMES}
_NOT_HEARD = re.compile(r"[-_ ]")


def same_name(name: str) -> str:
    """Return what is equal for `userId`, `user_id`, `User-ID` and ` USERID `."""
    return _NOT_HEARD.sub("", name.strip()).casefold()


def find_column(where: str, names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Return the first of `wanted` that is among `names`, as it is written there; None: none is.

    Of one name, exactly that comes before another way to write it. `where` is the name of the file.

    Raises:
        InputError: the column stands there more than once.
    """
    for name in wanted:
        for exact in (True, False):
            found = [there for there in names if _is_same(there, name, exact=exact)]
            if len(found) > 1:
                listing = ", ".join(map(printable, names))
                raise InputError(
                    f"{where}: expected every named column once, got {printable(name)} more than "
                    f"once in {listing}. Check source.*_column, or rename one of them."
                )
            if found:
                return found[0]
    return None


def _is_same(there: str, name: str, *, exact: bool) -> bool:
    if exact:
        return there == name
    return same_name(there) == same_name(name)


def find_columns(
    where: str,
    names: Sequence[str],
    source: SourceConfig,
    kind: Kind = "ratings",
    *,
    aliases: bool = True,
) -> Columns:
    """Return the columns of a source with the columns `names`, as far as they are there.

    Args:
        where: the name of the file, for messages.
        names: the columns' names.
        source: its settings `*_column` are used.
        kind: what the source holds.
        aliases: whether a column that nobody named may have another known name.

    Raises:
        InputError: a column that is wanted stands there more than once.
    """
    found: Columns = {}
    for role in ROLES[kind]:
        named = _named(role, source)
        wanted = [named] if named else []
        if aliases and not is_chosen(role, source):
            wanted += _ALIASES.get(role, ())
        column = find_column(where, names, wanted)
        if column is not None:
            found[role] = column
    return found


def missing_columns(found: Columns, source: SourceConfig, kind: Kind) -> list[str]:
    """Return the names of the columns that are needed and not among those `found`.

    User, item and rating are needed (of events, user and item), and what a setting names beside
    them.
    """
    needed = [role for role in ROLES[kind] if role in NEEDED[kind] or is_chosen(role, source)]
    return [_named(role, source) for role in needed if role not in found]


def events_advice(missing: Sequence[str], source: SourceConfig, kind: Kind) -> str:
    """Return what to do where the rating alone is missing, as a sentence; "" elsewhere."""
    if kind == "events" or list(missing) != [source.rating_column]:
        return ""
    return (
        " If these are events without ratings (plays, clicks, purchases), set data.kind=events; "
        "if there are ratings under another name, set source.rating_column."
    )


def unread_notes(
    where: str, names: Sequence[str], found: Columns, source: SourceConfig, kind: Kind
) -> tuple[str, ...]:
    """Return what is to be told of a column of ratings that a source of events has as well."""
    if kind == "ratings":
        return ()
    column = find_column(where, names, [source.rating_column])
    return () if column is None or column in found.values() else (unread_note(column),)


def unread_note(column: str) -> str:
    """Return what is told of a column of ratings among events."""
    return f"the column {printable(column)} is not read, as data.kind is events"


def are_there(found: Columns, kind: Kind) -> bool:
    """Return whether the columns that must be there are among those `found`."""
    return all(role in found for role in NEEDED[kind])


def is_chosen(role: Role, source: SourceConfig) -> bool:
    """Return whether somebody has named the column; the defaults are nobody's choice."""
    named = _named(role, source)
    default = SourceConfig.model_fields[f"{role}_column"].default
    return bool(named) and named != default


def _named(role: Role, source: SourceConfig) -> str:
    """Return the setting that names the column."""
    named: str = getattr(source, f"{role}_column")
    return named
