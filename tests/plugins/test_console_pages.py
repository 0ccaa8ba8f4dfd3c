"""What holds for every page of the console: its files are served, and data never become markup."""

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "plugins" / "mf_console" / "static"
FILES = sorted(path.name for path in STATIC.iterdir())
PAGES = [name for name in FILES if name.endswith(".html")]
SCRIPTS = [name for name in FILES if name.endswith(".js")]
WAYS_TO_MARKUP = (
    "innerHTML",
    "outerHTML",
    "insertAdjacentHTML",
    "document.write",
    "eval(",
    "srcdoc",
)


def test_every_file_of_the_console_is_served() -> None:
    from mf_console.app import MEDIA_TYPES, build_app

    routes = {getattr(route, "path", "") for route in build_app().routes}
    assert set(MEDIA_TYPES) == set(FILES)
    # The first page is what the address without a name gives.
    assert {f"/{name}" for name in FILES} - routes <= {"/console.html"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_only_files_that_are_there(name: str) -> None:
    page = (STATIC / name).read_text(encoding="utf-8")
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert loaded
    assert set(loaded) <= set(FILES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_holds_no_script_and_no_style_of_its_own(name: str) -> None:
    page = (STATIC / name).read_text(encoding="utf-8")
    for forbidden in ("<script>", "<style", "style=", "onclick=", "javascript:"):
        assert forbidden not in page


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_never_makes_markup_of_data(name: str) -> None:
    script = (STATIC / name).read_text(encoding="utf-8")
    for way in WAYS_TO_MARKUP:
        assert way not in script
