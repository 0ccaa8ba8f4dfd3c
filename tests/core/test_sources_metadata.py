"""Items and users of every layout."""

from pathlib import Path

import pytest

from mf_core.config import make_config
from mf_core.errors import InputError
from mf_core.sources.local import LocalFile
from mf_core.sources.metadata import Metadata, read_items, read_users

SOURCE = make_config().source
FLAGS = "|".join("1" if i in (3, 4, 5) else "0" for i in range(19))
TOY_STORY = {"genres": ["Animation", "Children's", "Comedy"], "year": 1995}
ATOMIC_ITEMS = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "1\tToy Story (1995)\t1995\tAnimation Children's Comedy\n"
)
ATOMIC_USERS = (
    "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\ttechnician\t05201\n"
)
USER = {"age": 24, "gender": "M", "occupation": "technician", "zip": "05201"}


def load(tmp_path: Path, kind: str, name: str, content: str | bytes) -> Metadata:
    """Write a file of items or users and return what is read of it."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    file = LocalFile(path, name, "", "")
    readers = {"items": read_items, "users": read_users}

    return readers[kind](file, SOURCE)


@pytest.mark.parametrize(
    ("name", "content", "attributes"),
    [
        (
            "u.item",
            f"1|Toy Story (1995)|01-Jan-1995|||{FLAGS}\n",
            {**TOY_STORY, "release_date": "1995-01-01"},
        ),
        ("movies.dat", "1::Toy Story (1995)::Animation|Children's|Comedy\n", TOY_STORY),
        (
            "movies.csv",
            "movieId,title,genres\n1,Toy Story (1995),Animation|Children's|Comedy\n",
            TOY_STORY,
        ),
        (
            "x.item",
            ATOMIC_ITEMS,
            TOY_STORY,
        ),
        (
            "any.csv",
            'item_id,title,colour\n1,"Toy Story (1995)",red\n',
            {"colour": "red", "year": 1995},
        ),
    ],
)
def test_items(tmp_path: Path, name: str, content: str, attributes: dict[str, object]) -> None:
    (row,) = load(tmp_path, "items", name, content).rows
    assert row.id == "1"
    assert row.title == "Toy Story (1995)"
    assert row.attributes == attributes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("u.user", "1|24|M|technician|05201\n"),
        ("users.dat", "1::M::24::technician::05201\n"),
        (
            "x.user",
            ATOMIC_USERS,
        ),
        ("any.csv", "user_id,age,gender,occupation,zip\n1,24,M,technician,05201\n"),
    ],
)
def test_users(tmp_path: Path, name: str, content: str) -> None:
    (row,) = load(tmp_path, "users", name, content).rows
    assert row.id == "1"
    assert row.attributes == USER


def test_latin_1_is_the_fallback(tmp_path: Path) -> None:
    title = "Misérables, Les (1995)"
    line = f"1|{title}|||| {FLAGS}".replace(" 0", "0")
    latin = load(tmp_path, "items", "u.item", line.encode("latin-1"))
    utf8 = load(tmp_path, "items", "u.item", line.encode())

    assert latin.rows[0].title == title
    assert utf8.rows[0].title == title


def test_titles_are_taken_as_they_are(tmp_path: Path) -> None:
    title = "<script>alert(1)</script>'; DROP TABLE mf.items;--"
    metadata = load(tmp_path, "items", "i.csv", f'item_id,title\n1,"{title}"\n')

    assert metadata.rows[0].title == title


def test_unusable_lines_are_counted_and_the_last_of_an_id_wins(tmp_path: Path) -> None:
    metadata = load(tmp_path, "items", "i.csv", "item_id,title\n1,a\n1,b\n,c\n2\n2,d,e\n\n")
    [row] = metadata.rows

    assert row.id == "1"
    assert row.title == "b"
    assert metadata.skipped == 3


def test_no_genres_listed_is_an_empty_list(tmp_path: Path) -> None:
    text = "movieId,title,genres\n1,X,(no genres listed)\n"
    metadata = load(tmp_path, "items", "movies.csv", text)

    assert metadata.rows[0].attributes == {"genres": []}


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "empty file"), ("a,b\n1,2\n", "expected a header with the column item_id")],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(tmp_path, "items", "i.csv", content)
