"""The console as a person sees it who may only look."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect
from sqlalchemy.engine import Engine

from mf_core.warehouse import tables, transaction
from tests.browser.conftest import OpenPage
from tests.db.histories import (
    add_decision,
    add_lists,
    add_run,
    add_version,
    go_live,
)

VIEWER = "viewer"
NASTY = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>"
NEWER = 25


@pytest.fixture
def live(empty: Engine) -> int:
    """A version that has been live for 31 hours, 25 newer ones, and a last run that failed."""
    with transaction(empty) as connection:
        version = add_version(connection, "first", state="approved")
        add_decision(connection, version, approved=True)
        go_live(connection, version, ago=timedelta(hours=31))
        lists = {"ada": ["i1", "i2"], NASTY: ["i3"], "": ["i2", "i1"]}
        add_lists(connection, version, lists)
        items = [
            {"item_id": "i1", "title": "The Analytical Engine", "attributes": {}},
            {"item_id": "i3", "title": NASTY, "attributes": {}},
        ]
        connection.execute(sa.insert(tables.items), items)
        like = {"model_version": version, "item_id": "i1", "score": 0.9}
        nearest = [{**like, "rank": 1, "similar_item_id": "i3"}]
        connection.execute(sa.insert(tables.similar_items), nearest)
        for number in range(NEWER):
            newer = add_version(connection, f"night {number}", state="refused")
            add_decision(connection, newer, approved=False, text=f"too bad, number {number}")
            ago = timedelta(hours=30 - number)
            add_run(connection, f"night {number}", "refused", ago=ago, step="gate", message="no")
        dry = add_version(connection, "a dry run", state="dry_run")
        add_decision(connection, dry, approved=True)
        add_run(
            connection,
            "tonight",
            "failed",
            step="ingest",
            message=f"{NASTY}: the file is empty",
            note=f"{NASTY}: no dates",
        )
    return version


@pytest.fixture
def console(open_page: OpenPage) -> Callable[..., Page]:
    """Open the console as somebody who may only look, and wait until it has loaded."""

    def _open(**options: Any) -> Page:
        page = open_page("/mf/", user=VIEWER, **options)
        expect(page.locator("#live")).not_to_contain_text("Loading")
        return page

    return _open


def card(page: Page, name: str) -> str:
    """Return what a card of the live version says."""
    return page.locator(".card", has_text=name).locator("dd").inner_text()


def test_an_empty_warehouse_says_what_to_do(console: Callable[..., Page], empty: Engine) -> None:
    page = console()
    expect(page.locator("#live")).to_contain_text("trigger mf_retrain")
    expect(page.locator("#run")).to_contain_text("No run is on record yet")
    expect(page.locator("#versions")).to_contain_text("There are no versions yet")
    expect(page.locator("#problem")).to_be_hidden()


def test_the_live_version_is_told_with_25_newer_ones(
    console: Callable[..., Page], live: int
) -> None:
    page = console()
    assert card(page, "Version") == str(live)
    assert "by the gate" in card(page, "Live since")
    assert card(page, "Age of its lists").startswith("31 hours")
    assert card(page, "Made from") == "100 ratings"
    assert card(page, "Test RMSE") == "0.9000"
    assert card(page, "NDCG@10") == "0.4000"


def test_the_last_run_says_what_it_died_of_and_what_to_do(
    console: Callable[..., Page], live: int
) -> None:
    run = console().locator("#run")
    expect(run).to_contain_text("failed in step ingest")
    expect(run).to_contain_text("tonight, started")
    expect(run).to_contain_text("by Ada")
    expect(run).to_contain_text("the file is empty")
    expect(run).to_contain_text("To know: ")
    expect(run).to_contain_text("no dates")
    expect(run).to_contain_text("What to do: ")
    link = run.get_by_role("link", name="docs/runbook.md#ingest")
    expect(link).to_have_attribute("href", "runbook#ingest")


@pytest.mark.parametrize(
    ("name", "size", "total"), [("versions", 20, 27), ("verdicts", 10, 27), ("runs", 10, 26)]
)
def test_each_table_pages(
    console: Callable[..., Page], live: int, name: str, size: int, total: int
) -> None:
    row = "details" if name == "verdicts" else "tbody tr"
    section = console().locator(f"#{name}")
    newer = section.get_by_role("button", name="Newer")
    older = section.get_by_role("button", name="Older")
    expect(newer).to_be_disabled()
    seen: list[str] = []
    while True:
        last = min(len(seen) + size, total)
        expect(section).to_contain_text(f"{len(seen) + 1} to {last} of {total}")
        seen += section.locator(row).all_inner_texts()
        if older.is_disabled():
            break
        older.click()
    assert len(set(seen)) == len(seen) == total

    newer.click()
    expect(older).to_be_enabled()


def test_a_dry_run_reads_as_one(console: Callable[..., Page], live: int) -> None:
    page = console()
    expect(page.locator("#verdicts details").first).to_contain_text("dry run: would be approved")
    first_version = page.locator("#versions tbody tr").first
    expect(first_version).to_contain_text("dry run: would be approved")


def look_up(page: Page, user_id: str) -> None:
    """Ask for a user's list."""
    page.get_by_label("User id").fill(user_id)
    page.get_by_role("button", name="Show").click()


def test_a_users_list_and_the_popular_one(console: Callable[..., Page], live: int) -> None:
    page = console()
    look_up(page, "ada")
    expect(page.locator("#list tbody tr")).to_have_count(2)
    expect(page.locator("#list")).to_contain_text("The Analytical Engine")

    look_up(page, "nobody")
    expect(page.locator("#list")).to_contain_text("this is the popular list")
    expect(page.locator("#list caption")).to_have_text("List of user nobody")


def find(page: Page, item_id: str) -> None:
    """Ask what an item is like."""
    page.get_by_label("Item id").fill(item_id)
    page.get_by_role("button", name="Find").click()


def test_what_an_item_is_like(console: Callable[..., Page], live: int) -> None:
    page = console()
    find(page, "i1")
    expect(page.locator("#similar tbody tr")).to_have_count(1)
    expect(page.locator("#similar tbody tr")).to_contain_text(NASTY)
    expect(page.locator("#similar caption")).to_have_text("Items like item i1")
    assert page.locator("main img, main b").count() == 0

    find(page, "i3")
    expect(page.locator("#similar")).to_have_text("No item is known to be like item i3.")


def test_what_others_wrote_is_never_markup(console: Callable[..., Page], live: int) -> None:
    page = console()
    look_up(page, NASTY)
    expect(page.locator("#list tbody tr")).to_contain_text(NASTY)
    expect(page.locator("#run .said")).to_contain_text(NASTY)
    assert page.locator("main img, main b").count() == 0
    assert page.title() == "Recommendations"


@pytest.mark.parametrize(
    "user_id", ["' OR ''='", "../..", "%00", "ü😀", "\ufffe", "a\\b", "x" * 500]
)
def test_any_id_may_be_asked_for(console: Callable[..., Page], live: int, user_id: str) -> None:
    page = console()
    look_up(page, user_id)
    expect(page.locator("#list caption")).to_have_text(f"List of user {user_id}")
    expect(page.locator("#problem")).to_be_hidden()


def test_an_id_that_can_not_be_is_a_sentence(console: Callable[..., Page], live: int) -> None:
    page = console()
    page.get_by_label("User id").evaluate("input => { input.value = 'a\\0b'; }")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("#problem")).to_contain_text("neither NUL nor half a character")


def test_a_locked_table_is_a_sentence_and_reloading_helps(
    console: Callable[..., Page], live: int, warehouse: Engine
) -> None:
    page = console()
    with transaction(warehouse) as connection:
        connection.execute(sa.text("LOCK TABLE mf.models IN ACCESS EXCLUSIVE MODE"))
        page.get_by_role("button", name="Reload").click()
        expect(page.locator("#problem")).to_contain_text("did not answer within 3 s")
    page.get_by_role("button", name="Reload").click()
    expect(page.locator("#problem")).to_be_hidden()
    assert card(page, "Version") == str(live)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_its_window(
    console: Callable[..., Page], live: int, width: int, dark: bool
) -> None:
    page = console(width=width, dark=dark)
    look_up(page, "ada")
    expect(page.locator("#list tbody tr")).to_have_count(2)
    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0


def test_the_navigation_of_airflow_leads_to_the_page(open_page: OpenPage, live: int) -> None:
    page = open_page("/", user=VIEWER, width=1400)
    page.get_by_role("link", name="Recommendations").click()
    frame = page.frame_locator("iframe")
    expect(frame.locator("#live")).to_contain_text("by the gate")
