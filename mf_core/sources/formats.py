"""The formats of ratings that can be read: the one list that the other modules of this package use.

A file of ratings is recognised by its name (`RATINGS_FORMATS`) and its separator by the first line
(`DELIMITERS`). What only the first bytes say is in `contents`. docs/sources.md has the same as a
table.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from urllib.parse import unquote

from mf_core.sources.contents import PACKINGS

# The values of the setting `source.layout`, and what each of them allows.
AUTO = "auto"
MOVIELENS = "movielens"
CSV = "csv"
HEADERLESS = "headerless"
JSON = "json"
PARQUET = "parquet"
LAYOUTS = {
    AUTO: "the name, the first line and the first bytes decide",
    MOVIELENS: "text, with MovieLens' own header or without any",
    CSV: "text with a header that has the configured columns",
    HEADERLESS: "text without a header: user, item, rating, time, or columns named by their number",
    JSON: "JSON lines, whatever the first bytes are",
    PARQUET: "Parquet, whatever the first bytes are",
}


@dataclass(frozen=True)
class Delimiter:
    """A field separator that is recognised without a setting.

    Attributes:
        text: the separator.
        name: what messages call it.
    """

    text: str
    name: str


SPACE = " "
"""Any number of spaces is one separator."""

# In the order in which they are tried: '::' before the single characters, and spaces last, as any
# line may hold some.
DELIMITERS = (
    Delimiter("::", "'::'"),
    Delimiter("\t", "tabs"),
    Delimiter(",", "commas"),
    Delimiter(";", "semicolons"),
    Delimiter("|", "bars"),
    Delimiter(SPACE, "spaces"),
)


@dataclass(frozen=True)
class HeaderlessTable:
    """A file of items or users without a header: its name, its separator, its fields per line."""

    name: str
    delimiter: str
    n_fields: int


ITEMS_100K = HeaderlessTable("u.item", "|", 24)
USERS_100K = HeaderlessTable("u.user", "|", 5)
ITEMS_1M = HeaderlessTable("movies.dat", "::", 3)
USERS_1M = HeaderlessTable("users.dat", "::", 5)

# The name that demo's download gives the items and users where they come from a package.
_PACKAGED_ITEMS = "ml-100k.item"
_PACKAGED_USERS = "ml-100k.user"

# RecBole writes the type of a column behind its name.
ATOMIC_TYPE = re.compile(r":(token|token_seq|float|float_seq)$")

HEADERLESS_FIELDS = 4
"""Fields of a known file without a header: user, item, rating, epoch seconds."""


class Choice(Enum):
    """Which of several files of one format in a folder or a zip are the ratings."""

    NEAREST = "the one nearest to the top"
    SINGLE = "the one that there is; several are refused"
    ALL = "all of them, as parts of one table; in several folders, they are refused"


@dataclass(frozen=True)
class RatingsFormat:
    """A kind of ratings file, recognised by its name.

    Attributes:
        family: what the documentation calls it.
        shown: what messages call it.
        pattern: what the whole name is (in small letters, without .gz and the like); a group `stem`
            may be used by `items` and `users`.
        choice: which files of a folder or a zip are taken; None: it must be named in source.uri.
        headerless: whether the file has no header.
        items: names that the file of items beside it may have, best first.
        users: names that the file of users beside it may have, best first.
    """

    family: str
    shown: str
    pattern: re.Pattern[str]
    choice: Choice | None
    headerless: bool = False
    items: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


# A folder or a zip is searched for them in this order, and the first one found is taken.
RATINGS_FORMATS = (
    RatingsFormat(
        family="MovieLens",
        shown="u.data",
        pattern=re.compile(r"u\.data"),
        choice=Choice.NEAREST,
        headerless=True,
        items=(ITEMS_100K.name, _PACKAGED_ITEMS),
        users=(USERS_100K.name, _PACKAGED_USERS),
    ),
    # The folds of MovieLens 100K and 10M: which of them is meant, only the setting can say.
    RatingsFormat(
        family="MovieLens",
        shown="u1.base",
        pattern=re.compile(r"u[0-9a-z]\.(base|test)"),
        choice=None,
        headerless=True,
        items=(ITEMS_100K.name, _PACKAGED_ITEMS),
        users=(USERS_100K.name, _PACKAGED_USERS),
    ),
    RatingsFormat(
        family="MovieLens",
        shown="r1.train",
        pattern=re.compile(r"r[0-9a-z]\.(train|test)"),
        choice=None,
        headerless=True,
    ),
    RatingsFormat(
        family="MovieLens",
        shown="ratings.dat",
        pattern=re.compile(r"ratings\.dat"),
        choice=Choice.NEAREST,
        headerless=True,
        items=(ITEMS_1M.name,),
        users=(USERS_1M.name,),
    ),
    RatingsFormat(
        family="MovieLens",
        shown="ratings.csv",
        pattern=re.compile(r"ratings\.csv"),
        choice=Choice.NEAREST,
        items=("movies.csv",),
        users=("users.csv",),
    ),
    RatingsFormat(
        family="RecBole",
        shown="*.inter",
        pattern=re.compile(r"(?P<stem>.+)\.inter"),
        choice=Choice.SINGLE,
        items=("{stem}.item",),
        users=("{stem}.user",),
    ),
    # What Spark, Dask and others write into a folder: one table, whatever is in the files.
    RatingsFormat(
        family="parts",
        shown="part-*",
        pattern=re.compile(r"part[-_.]?[0-9]+.*|[0-9]+\.part"),
        choice=Choice.ALL,
    ),
    RatingsFormat(
        family="Parquet",
        shown="*.parquet",
        pattern=re.compile(r".+\.parquet"),
        choice=Choice.ALL,
    ),
    RatingsFormat(
        family="JSON lines",
        shown="*.jsonl",
        pattern=re.compile(r".+\.(jsonl|ndjson)"),
        choice=Choice.SINGLE,
    ),
    RatingsFormat(
        family="CSV",
        shown="a single table",
        pattern=re.compile(r"(?!readme).+\.(csv|tsv|dat|txt|data)"),
        choice=Choice.SINGLE,
    ),
)


# As Hive and Spark name folders: a column that all rows below have in common.
_PARTITION = re.compile(r"(?P<column>[^=]+)=(?P<value>.*)")
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

# Folders of what is not a table, or not yet.
UNFINISHED = "_temporary"
TABLES_WITH_A_LOG = {"_delta_log": "Delta", ".hoodie": "Hudi"}


def unpacked_name(name: str) -> str:
    """Return `name` without the end that a packed file has."""
    for packing in PACKINGS:
        for suffix in packing.suffixes:
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
    return name


def partition_of(path: str) -> dict[str, str]:
    """Return the columns that the folders of a path give to all rows: `date=2026-01-01/x.csv`.

    A value that is missing there is "".
    """
    found = {}
    for folder in PurePosixPath(path).parts[:-1]:
        if match := _PARTITION.fullmatch(folder):
            value = unquote(match["value"])
            found[unquote(match["column"])] = "" if value == _NO_VALUE else value
    return found


def is_partition(folder: str) -> bool:
    """Say whether the name of a folder gives a column to all rows below."""
    return _PARTITION.fullmatch(folder) is not None


def is_headerless(name: str) -> bool:
    """Return whether a file of that name is known to have no header.

    The name comes without its folder, with or without .gz, in small or in large letters.
    """
    plain = unpacked_name(name.lower())
    headerless = [kind for kind in RATINGS_FORMATS if kind.headerless]
    return any(kind.pattern.fullmatch(plain) for kind in headerless)


def companions(ratings_name: str) -> tuple[list[str], list[str]]:
    """Return the names that the files of items and users beside a ratings file may have.

    Both lists have the best name first; they are empty for a file that comes without metadata.
    """
    plain = unpacked_name(ratings_name)
    for kind in RATINGS_FORMATS:
        match = kind.pattern.fullmatch(plain)
        if match:
            # The stem of RecBole's files is common to all of them.
            groups = match.groupdict()
            items = [name.format(**groups) for name in kind.items]
            users = [name.format(**groups) for name in kind.users]
            return items, users
    return [], []


def choose_ratings(paths: Sequence[str]) -> list[int]:
    """Return which of the files in a folder or a zip are the ratings, as positions in `paths`.

    Args:
        paths: the files' paths within it, the file nearest to the top first.
    """
    plain = [unpacked_name(PurePosixPath(path).name.lower()) for path in paths]
    for kind in RATINGS_FORMATS:
        if kind.choice is None:
            continue
        found = [number for number, name in enumerate(plain) if kind.pattern.fullmatch(name)]
        if found:
            # Each folder of a partitioned table has files of one name.
            partitioned = any(partition_of(paths[number]) for number in found)
            choice = Choice.ALL if partitioned else kind.choice
            tables = {_table_of(paths[number]) for number in found}
            if choice is Choice.ALL and len(tables) > 1:
                return []
            return _taken(found, choice)
    return []


def _table_of(path: str) -> PurePosixPath:
    """Return the folder of the table that a file is a part of: the one above its partitions."""
    folder = PurePosixPath(path).parent
    while is_partition(folder.name):
        folder = folder.parent
    return folder


def _taken(found: list[int], choice: Choice) -> list[int]:
    """Return which of the files of one format are taken."""
    if choice is Choice.ALL:
        return found
    if choice is Choice.NEAREST:
        return found[:1]
    return found if len(found) == 1 else []


def delimiter_name(delimiter: str) -> str:
    """Return what messages call a separator; one that is not in the list is quoted."""
    for known in DELIMITERS:
        if known.text == delimiter:
            return known.name
    return repr(delimiter)


def expected_files() -> str:
    """Return, for messages, what is looked for in a folder or a zip."""
    looked_for = [kind for kind in RATINGS_FORMATS if kind.choice]
    return _one_of(kind.shown for kind in looked_for)


def expected_delimiters() -> str:
    """Return, for messages, the separators that are recognised.

    The single characters come first, as most files are separated by one.
    """
    by_length = sorted(DELIMITERS, key=lambda delimiter: len(delimiter.text))
    return _one_of(delimiter.name for delimiter in by_length)


def _one_of(words: Iterable[str]) -> str:
    """Return words as a list in a sentence: "a, b or c"."""
    *first, last = words
    return f"{', '.join(first)} or {last}"
