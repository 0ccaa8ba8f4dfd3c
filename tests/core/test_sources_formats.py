"""One list of formats: whoever adds a format to one place only is told here."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from mf_core.config import SourceConfig, make_config
from mf_core.redaction import redacted
from mf_core.sources import contents, formats
from mf_core.sources.contents import PACKINGS
from mf_core.sources.formats import (
    DELIMITERS,
    LAYOUTS,
    RATINGS_FORMATS,
    Choice,
    HeaderlessTable,
    RatingsFormat,
)
from mf_core.sources.metadata import read_items, read_users
from mf_core.sources.source import open_source

from .test_sources import CSV, ROWS, U_DATA, read, refusal

REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "mf_core" / "sources"
ATOMIC = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
PARQUET = "written by pandas"
NAMES = ("user_id", "item_id", "rating", "timestamp")
JSON_LINES = "".join(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in ROWS)

# By the name in messages: a file of that format, and one of its content.
EXAMPLES = {
    "u.data": ("u.data", U_DATA),
    "u1.base": ("ua.test", U_DATA),
    "r1.train": ("rb.train", U_DATA.replace("\t", "::")),
    "ratings.dat": ("ratings.dat", U_DATA.replace("\t", "::")),
    "ratings.csv": ("ratings.csv", CSV.replace("user_id,item_id", "userId,movieId")),
    "*.inter": ("some.inter", ATOMIC + U_DATA),
    "part-*": ("part-00000.csv", CSV),
    "*.parquet": ("some.parquet", PARQUET),
    "*.jsonl": ("some.jsonl", JSON_LINES),
    "a single table": ("some.csv", CSV),
}
# A file of items and one of users by each name that a format has for them.
METADATA = {
    "u.item": "1|A|||" + "|0" * 19,
    "u.user": "1|24|M|technician|05201",
    "ml-100k.item": "item_id:token\n1",
    "ml-100k.user": "user_id:token\n1",
    "movies.dat": "1::A::B",
    "users.dat": "1::M::24::x::05201",
    "movies.csv": "movieId,title\n1,A",
    "users.csv": "user_id,age\n1,24",
    "some.item": "item_id:token\n1",
    "some.user": "user_id:token\n1",
}

# By the value of source.layout: the format of a file that it is meant for.
LAYOUT_EXAMPLES = {
    "auto": "*.inter",
    "movielens": "ratings.csv",
    "csv": "a single table",
    "headerless": "u.data",
    "json": "*.jsonl",
    "parquet": "*.parquet",
}
FORMATS = {kind.shown: kind for kind in RATINGS_FORMATS}
SEVERAL = [kind for kind in RATINGS_FORMATS if kind.choice in (Choice.SINGLE, Choice.ALL)]

each_format = pytest.mark.parametrize("kind", RATINGS_FORMATS, ids=lambda kind: kind.shown)


def write_example(folder: Path, kind: RatingsFormat) -> Path:
    """Write the example of a format to `folder` and return its path."""
    name, content = EXAMPLES[kind.shown]
    path = folder / name

    if content == PARQUET:
        pd.DataFrame(ROWS, columns=list(NAMES)).to_parquet(path)
    else:
        path.write_text(content)

    return path


def test_the_setting_has_the_layouts_of_the_list() -> None:
    annotation = SourceConfig.model_fields["layout"].annotation
    assert set(get_args(annotation)) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_reads_what_it_is_meant_for(tmp_path: Path, layout: str) -> None:
    kind = FORMATS[LAYOUT_EXAMPLES[layout]]
    path = write_example(tmp_path, kind)

    assert read(path, layout=layout) == ROWS


@each_format
def test_each_format_is_read(tmp_path: Path, kind: RatingsFormat) -> None:
    path = write_example(tmp_path, kind)

    assert read(path) == ROWS


@each_format
def test_each_format_is_found_in_a_folder(tmp_path: Path, kind: RatingsFormat) -> None:
    write_example(tmp_path, kind)
    (tmp_path / "README").write_text("not ratings")

    if kind.choice is None:
        assert kind.shown not in refusal(tmp_path)
    else:
        assert read(tmp_path) == ROWS


@pytest.mark.parametrize("kind", SEVERAL, ids=lambda kind: kind.shown)
def test_several_files_of_a_format_are_taken_as_the_list_says(
    tmp_path: Path, kind: RatingsFormat
) -> None:
    path = write_example(tmp_path, kind)
    second = tmp_path / path.name.replace("some", "zsome").replace("0.", "1.")
    second.write_bytes(path.read_bytes())

    if kind.choice is Choice.ALL:
        assert read(tmp_path) == ROWS * 2
    else:
        expected = formats.expected_files()
        assert f"expected {expected}" in refusal(tmp_path)


def check_metadata(path: Path, item_name: str, user_name: str) -> None:
    """Check that the files of these names beside ratings are found, and read."""
    config = make_config({"source.uri": str(path)})

    with open_source(config, {}) as source:
        assert source.items is not None
        assert source.users is not None
        assert source.items().name == item_name
        assert source.users().name == user_name

        items = read_items(source.items(), config.source)
        users = read_users(source.users(), config.source)
        assert [row.id for row in items.rows] == ["1"]
        assert [row.id for row in users.rows] == ["1"]


@each_format
def test_the_metadata_of_each_format_are_read(tmp_path: Path, kind: RatingsFormat) -> None:
    path = write_example(tmp_path, kind)
    items, users = formats.companions(path.name)

    assert len(items) == len(kind.items)
    assert len(users) == len(kind.users)

    for item_name, user_name in zip(items, users, strict=True):
        names = (item_name, user_name)
        for name in names:
            (tmp_path / name).write_text(METADATA[name] + "\n")

        check_metadata(path, item_name, user_name)

        for name in names:
            (tmp_path / name).unlink()


def test_each_table_without_a_header_belongs_to_a_format() -> None:
    known = vars(formats).values()
    tables = {table.name for table in known if isinstance(table, HeaderlessTable)}
    named = {name for kind in RATINGS_FORMATS for name in (*kind.items, *kind.users)}

    assert tables
    assert tables <= named


@pytest.mark.parametrize("delimiter", [known.text for known in DELIMITERS])
def test_each_separator_is_recognised_and_named(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "some.txt"
    path.write_text(CSV.replace(",", delimiter))

    assert read(path) == ROWS

    path.write_text("word\n")
    assert formats.delimiter_name(delimiter) in refusal(path)


def test_the_message_for_a_folder_names_every_format_that_is_looked_for(tmp_path: Path) -> None:
    said = refusal(tmp_path)
    shown = redacted(str(tmp_path))

    assert shown in said

    for kind in RATINGS_FORMATS:
        looked_for = kind.choice is not None
        assert (kind.shown in said) == looked_for


SECTIONS = re.split(r"(?m)^## ", (REPOSITORY / "docs" / "sources.md").read_text())


def table_below(heading: str) -> list[list[str]]:
    """Return the rows of the first table of a section of the page, without its header."""
    [section] = [section for section in SECTIONS if section.startswith(heading)]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_page_lists_what_the_code_lists() -> None:
    files = table_below("Which files")
    assert [row[0] for row in files] == [f"`{kind.shown}`" for kind in RATINGS_FORMATS]
    assert [row[1] for row in files] == [kind.family for kind in RATINGS_FORMATS]
    for row, kind in zip(files, RATINGS_FORMATS, strict=True):
        taken = "only by its own name" if kind.choice is None else kind.choice.value
        assert row[2] == taken
        assert row[3] == ("none" if kind.headerless else "as the first line says")

    layouts = table_below("How a file is read")
    assert {row[0].strip("`"): row[1] for row in layouts} == LAYOUTS
    tables = table_below("Rows")
    assert [row[0] for row in tables] == [*(kind.value for kind in contents.Table), "a query"]
    packings = table_below("What a file may be packed in")
    assert [(row[0], row[1]) for row in packings] == [
        *((kind.shown, ", ".join(f"`{end}`" for end in kind.suffixes)) for kind in PACKINGS),
        ("zip", f"`{contents.ZIP_SUFFIX}`"),
    ]
    foreign = table_below("What is not read")
    assert [(row[0], row[1]) for row in foreign] == list(contents.foreign_kinds())


def test_the_page_names_every_separator() -> None:
    [section] = [section for section in SECTIONS if section.startswith("How a file is read")]
    for known in DELIMITERS:
        assert known.name in section


def test_the_readme_leads_to_the_page_and_names_every_family() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    section = readme.partition("## Your own ratings")[2].partition("\n## ")[0]
    assert "(docs/sources.md)" in section
    for kind in RATINGS_FORMATS:
        assert kind.family in section


def string_constants(module: Path) -> Iterator[str]:
    """Yield the strings of a module that are no documentation."""
    nodes = list(ast.walk(ast.parse(module.read_text())))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}

    for node in nodes:
        if not isinstance(node, ast.Constant) or id(node) in documentation:
            continue
        if isinstance(node.value, str):
            yield node.value


# The demo downloads one data set, whose files have the names that they have.
OTHERS = [path for path in SOURCES.glob("*.py") if path.stem not in ("formats", "contents", "demo")]
LISTED = re.compile(
    r"\.(data|base|test|train|dat|csv|tsv|txt|inter|parquet|item|user|gz|zip)\b|::$|PAR1"
)


@pytest.mark.parametrize("module", OTHERS, ids=lambda path: path.stem)
def test_no_other_module_lists_a_format(module: Path) -> None:
    texts = set(string_constants(module))
    listed = [text for text in texts if LISTED.search(text)]

    assert listed == []
    assert texts & set(LAYOUTS) == set()
