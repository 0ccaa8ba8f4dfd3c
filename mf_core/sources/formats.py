"""The formats of ratings that can be read: the one list that the other modules of this package use.

A file of ratings is recognised by its name (`RATINGS_FORMATS`), its separator by the first line
(`DELIMITERS`), and what it is packed in by the first bytes (`GZIP`, `ZIP`, `PARQUET_MAGIC`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

# The values of the setting `source.layout`, and what each of them allows.
AUTO = "auto"
MOVIELENS = "movielens"
CSV = "csv"
PARQUET = "parquet"
LAYOUTS = {
    AUTO: "the name, the first line and the first bytes decide",
    MOVIELENS: "text, with MovieLens' own header or without any",
    CSV: "text with a header that has the configured columns",
    PARQUET: "Parquet, whatever the first bytes are",
}


@dataclass(frozen=True)
class Delimiter:
    """A field separator that is recognised without a setting.

    Attributes:
        text: the separator.
        name: what messages call it.
        headerless: whether files separated by it may come without a header.
    """

    text: str
    name: str
    headerless: bool = False


# In the order in which they are tried: '::' before the single characters.
DELIMITERS = (
    Delimiter("::", "'::'", headerless=True),
    Delimiter("\t", "tabs", headerless=True),
    Delimiter(",", "commas"),
    Delimiter(";", "semicolons"),
    Delimiter("|", "bars"),
)


@dataclass(frozen=True)
class Container:
    """What a file may be packed in: the end of its name and the first bytes of its content."""

    suffix: str
    magic: bytes


GZIP = Container(".gz", b"\x1f\x8b")
ZIP = Container(".zip", b"PK\x03\x04")
PARQUET_MAGIC = b"PAR1"


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
    ALL = "all of them, as parts of one table"


@dataclass(frozen=True)
class RatingsFormat:
    """A kind of ratings file, recognised by its name.

    Attributes:
        family: what the documentation calls it.
        shown: what messages call it.
        pattern: what the whole name is (in small letters, without .gz); a group `stem` may be used
            by `items` and `users`.
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
    RatingsFormat(
        family="Parquet",
        shown="*.parquet",
        pattern=re.compile(r".+\.parquet"),
        choice=Choice.ALL,
    ),
    RatingsFormat(
        family="CSV",
        shown="a single table",
        pattern=re.compile(r"(?!readme).+\.(csv|tsv|dat|txt|data)"),
        choice=Choice.SINGLE,
    ),
)


def unpacked_name(name: str) -> str:
    """Return `name` without the end that a packed file has."""
    return name.removesuffix(GZIP.suffix)


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


def choose_ratings(names: Sequence[str]) -> list[int]:
    """Return which of the files in a folder or a zip are the ratings, as positions in `names`.

    Args:
        names: the files' names without their folders, the file nearest to the top first.
    """
    plain = [unpacked_name(name.lower()) for name in names]
    for kind in RATINGS_FORMATS:
        if kind.choice is None:
            continue
        found = [number for number, name in enumerate(plain) if kind.pattern.fullmatch(name)]
        if found:
            return _taken(found, kind.choice)
    return []


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
