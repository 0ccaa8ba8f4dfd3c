"""The page where the first line of a red task's log leads."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx

Get = Callable[..., httpx.Response]
DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_runbook_has_an_anchor_for_each_section(get: Get, warehouse: str) -> None:
    page = get("/mf/runbook")
    text = (DOCS / "runbook.md").read_text()
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert page.headers["content-type"].startswith("text/html")
    assert len(sections) > 10
    for section in sections:
        anchor = section.lower().replace(" ", "-")
        assert f'<h2 id="{anchor}">' in page.text, section


def test_a_link_of_the_runbook_leads_to_what_is_served(get: Get, warehouse: str) -> None:
    page = get("/mf/runbook").text
    anchors = set(re.findall(r'id="([^"]+)"', page))
    leads_to = re.findall(r'<a href="([^"]+)"', page)

    assert leads_to
    for address in leads_to:
        assert address.startswith("https://") or address.removeprefix("#") in anchors, address


def test_the_runbook_that_the_package_brings_along_is_the_one_in_docs() -> None:
    from mf_console.runbook import RUNBOOK

    assert RUNBOOK.resolve() == DOCS / "runbook.md"
