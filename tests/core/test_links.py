"""Links, anchors, paths and names of tests in the pages and in the sources lead somewhere."""

import ast
import io
import os
import re
import tokenize
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]

# What git does not keep; folders with a dot are left out too, but for GitHub's own.
_NOT_OURS = ("var", "build", "dist", "shared", "__pycache__")
_OURS_WITH_A_DOT = (".github", ".ci")

_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?^ {0,3}\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE)
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_INLINE = re.compile(r"\]\(\s*<?([^)>\s]+)>?(?:\s+[\"'][^)]*)?\)")
_DEFINED = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^>\s]+)", re.MULTILINE)
_HTML = re.compile(r"""<[^>]*\s(?:href|src)=["']([^"']+)["']""")
_LINKED_WORDS = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_EMPHASIS = re.compile(r"\*+|(?<!\w)_+|_+(?!\w)")

_IN_SOURCES = re.compile(r"\bdocs/[\w./-]+\.md(?:#[\w-]+)?")
_IN_PAGES = re.compile(
    r"`((?:mf_core|dags|plugins|demo|docker|docs|tests|benchmarks)/[\w./-]*?)(?:::(\w+))?`"
)

# Words that name a piece of text, and where it stands.
Found = tuple[str, Path]


def files(root: Path, *suffixes: str) -> list[Path]:
    """Return the files of the project under `root` whose names end so."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if _is_ours(name)]
        found += [Path(folder, name) for name in names if name.endswith(suffixes)]
    return sorted(found)


def _is_ours(folder: str) -> bool:
    if folder.startswith("."):
        return folder in _OURS_WITH_A_DOT
    return folder not in _NOT_OURS and not folder.endswith(".egg-info")


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(prose(page)):
        slug = slug_of(heading)
        # The second heading of the same words gets -1, and so on.
        number = seen[slug]
        found.add(f"{slug}-{number}" if number else slug)
        seen[slug] += 1
    return found


def slug_of(heading: str) -> str:
    """Return the anchor of a heading: small letters, hyphens for spaces, no other signs."""
    words = _LINKED_WORDS.sub(r"\1", heading)
    plain = _EMPHASIS.sub("", words.replace("`", ""))
    kept = re.sub(r"[^\w\- ]", "", plain.lower())
    return kept.strip().replace(" ", "-")


def links(root: Path) -> list[Found]:
    """Return every link of every page to another place in the project."""
    found = []
    # A page under a second name is checked under its first.
    pages = [page for page in files(root, ".md") if not page.is_symlink()]
    for page in pages:
        text = _CODE.sub("", prose(page))
        for pattern in (_INLINE, _DEFINED, _HTML):
            targets = pattern.findall(text)
            found += [(target, page) for target in targets if not _leads_elsewhere(target)]
    return found


def _leads_elsewhere(target: str) -> bool:
    parts = urlsplit(target)
    return bool(parts.scheme or parts.netloc)


def problem_of_link(root: Path, target: str, page: Path) -> str | None:
    """Return what is wrong with a link of `page`; None if it leads somewhere."""
    parts = urlsplit(target)
    path = unquote(parts.path)
    if not path:
        return _problem(page, parts.fragment)
    start = root if path.startswith("/") else page.parent
    return _problem((start / path.lstrip("/")).resolve(), parts.fragment)


def _problem(target: Path, anchor: str) -> str | None:
    if not target.is_file():
        return "there is no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return "there is no such heading"
    return None


def pages_named_in_sources(root: Path) -> list[Found]:
    """Return every page, with its anchor, that the sources name in messages and comments."""
    found = []
    for source in files(root, ".py", ".sql", ".js", ".html", ".sh", ".toml", ".yaml", "Makefile"):
        # This module makes pages up.
        if source == Path(__file__):
            continue
        for text in _texts(source):
            found += [(name, source) for name in _IN_SOURCES.findall(text)]
    return found


def _texts(source: Path) -> Iterator[str]:
    """Yield the pieces of a source that may name a page.

    Of Python, the strings and comments: a string may stand on several lines, in pieces.
    """
    content = source.read_text(encoding="utf-8")
    if "docs/" not in content:
        return
    if source.suffix != ".py":
        yield content
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def problem_of_name(root: Path, name: str, source: Path) -> str | None:
    """Return what is wrong with `docs/PAGE.md#ANCHOR` in a source; None if it leads somewhere."""
    path, _, anchor = name.partition("#")
    return _problem(root / path, anchor)


def paths_named_in_pages(root: Path) -> list[Found]:
    """Return every path of the project, with a test's name behind it, that a page names as code."""
    found = []
    for page in files(root, ".md"):
        for path, test in _IN_PAGES.findall(prose(page)):
            found.append((f"{path}::{test}" if test else path, page))
    return found


def problem_of_path(root: Path, name: str, page: Path) -> str | None:
    """Return what is wrong with a path that a page names; None if it is there."""
    path, _, test = name.partition("::")
    if not (root / path).exists():
        return "there is no such file or folder"
    if test and f"def {test}(" not in (root / path).read_text(encoding="utf-8"):
        return "there is no such test"
    return None


def broken(found: list[Found], problem: Callable[[Path, str, Path], str | None]) -> list[str]:
    """Return what leads nowhere, with its place and what is wrong, one a line."""
    lines = []
    for name, place in found:
        if wrong := problem(ROOT, name, place):
            lines.append(f"{place.relative_to(ROOT)}: {name}: {wrong}")
    return lines


def test_every_link_of_a_page_leads_to_a_file_and_a_heading() -> None:
    found = links(ROOT)
    pages = {page.relative_to(ROOT).as_posix() for _, page in found}
    assert {"README.md", "docs/runbook.md", "docs/adr/README.md"} <= pages
    assert len([target for target, _ in found if "#" in target]) >= 15
    assert broken(found, problem_of_link) == []


def test_every_page_and_heading_that_the_sources_name_exists() -> None:
    found = pages_named_in_sources(ROOT)
    kinds = {source.suffix for _, source in found}
    folders = {source.relative_to(ROOT).parts[0] for _, source in found}
    assert {".py", ".sql"} <= kinds
    assert {"mf_core", "mf_dags", "tests"} <= folders
    anchored = {name for name, _ in found if "#" in name}
    assert {"docs/runbook.md#check", "docs/runbook.md#gate", "docs/runbook.md#roles"} <= anchored
    assert broken(found, problem_of_name) == []


def test_every_path_and_test_that_a_page_names_exists() -> None:
    found = paths_named_in_pages(ROOT)
    pages = {page.relative_to(ROOT).as_posix() for _, page in found}
    assert {"docs/architecture.md", "docs/howto/add-a-solver.md"} <= pages
    assert len([name for name, _ in found if "::" in name]) >= 10
    assert broken(found, problem_of_path) == []


@pytest.mark.parametrize(
    ("heading", "slug"),
    [
        ("Who owns what", "who-owns-what"),
        ("`bayes` (default)", "bayes-default"),
        ("What's *new* in 0.2.0?", "whats-new-in-020"),
        ("ids: user_id, item_id", "ids-user_id-item_id"),
        ("The [runbook](runbook.md), again", "the-runbook-again"),
        ("A - B", "a---b"),
        ("Größe", "größe"),
    ],
)
def test_a_heading_has_the_anchor_that_github_gives_it(heading: str, slug: str) -> None:
    assert slug_of(heading) == slug


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with a page of two headings, and code that looks like a heading and like a link."""
    (tmp_path / "docs").mkdir()
    text = (
        "# One\n\n## Two\n\n## Two\n\n```sh\n# Three\n[a](nowhere.md)\n```\n\n`[b](nowhere.md)`\n"
    )
    (tmp_path / "docs" / "page.md").write_text(text)
    return tmp_path


def test_code_holds_neither_links_nor_headings(pages: Path) -> None:
    assert links(pages) == []
    assert anchors(pages / "docs" / "page.md") == {"one", "two", "two-1"}


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[a](docs/page.md)", None),
        ("[a](docs/page.md#two-1)", None),
        ("[a](docs/page.md#three)", "there is no such heading"),
        ("[a](docs/other.md)", "there is no such file"),
        ("[a](docs)", "there is no such file"),
        ("![a](docs/picture.png)", "there is no such file"),
        ("[a](#top)", None),
        ("[a](#bottom)", "there is no such heading"),
        ('<a href="docs/other.md">a</a>', "there is no such file"),
        ("[a]: docs/other.md", "there is no such file"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(pages: Path, link: str, problem: str | None) -> None:
    page = pages / "README.md"
    page.write_text(f"# Top\n\n{link}\n")
    [(target, place)] = links(pages)
    assert place == page
    assert problem_of_link(pages, target, place) == problem


def test_a_link_to_the_web_is_left_alone(pages: Path) -> None:
    (pages / "README.md").write_text("[a](https://example.org/b.md#c) [d](mailto:e@example.org)\n")
    assert links(pages) == []


@pytest.mark.parametrize(
    ("anchor", "problem"), [("", None), ("#one", None), ("#four", "there is no such heading")]
)
def test_a_page_that_a_source_names_is_found_in_pieces(
    pages: Path, anchor: str, problem: str | None
) -> None:
    source = pages / "module.py"
    source.write_text(f'MESSAGE = f"{{1}}; see docs/pa" "ge.md{anchor}."  # no page\n')
    [(name, place)] = pages_named_in_sources(pages)
    assert (name, place) == (f"docs/page.md{anchor}", source)
    assert problem_of_name(pages, name, place) == problem


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("tests/", None),
        ("tests/test_a.py", None),
        ("tests/test_a.py::test_it", None),
        ("tests/test_a.py::test_that", "there is no such test"),
        ("tests/test_b.py", "there is no such file or folder"),
    ],
)
def test_a_path_that_a_page_names_is_looked_up(
    tmp_path: Path, name: str, problem: str | None
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_it(): ...\n")
    (tmp_path / "README.md").write_text(f"See `{name}`.\n")
    [(found, place)] = paths_named_in_pages(tmp_path)
    assert found == name
    assert problem_of_path(tmp_path, found, place) == problem
