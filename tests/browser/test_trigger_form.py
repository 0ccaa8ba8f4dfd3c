"""The trigger forms and a red task's log, as a person sees them.

What a person types reaches the run as it was typed, or the form says no; the run's first task
refuses what can't be honoured, and the first thing its log says is why.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from sqlalchemy.engine import Engine

from demo.launcher import Stack
from demo.processes import wait_until
from demo.run import DAG_ID
from mf_core import pipeline
from tests.browser.conftest import OpenPage
from tests.db.test_publish import publish_one
from tests.db.worlds import make_world

ROLLBACK = "mf_rollback"
N_FACTORS = "rating_head.als.n_factors"
RUN_SECONDS = 90
# The DAG processor reads the files again every 30 s.
PARSE_SECONDS = 90


@pytest.fixture(autouse=True)
def unpaused(stack: Stack) -> Iterator[None]:
    """Let triggered runs run, and leave none behind."""
    stack.api.set_paused(DAG_ID, False)
    yield
    for run in stack.api.unfinished_runs(DAG_ID):
        stack.api.fail_run(DAG_ID, run.run_id)


def trigger_form(page: Page) -> Locator:
    """Open the trigger form of the DAG whose page is open."""
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    form.get_by_text("Run Parameters").wait_for()
    return form


def field(form: Locator, section: str, name: str) -> Locator:
    """Return the field of a setting, its section unfolded."""
    form.get_by_text(section, exact=True).click()
    found = form.locator(f'[id="element_{name}"]')
    found.wait_for()
    return found


def submit(form: Locator) -> None:
    """Press the form's own button."""
    form.get_by_role("button", name="Trigger", exact=True).click()


def run_ids(stack: Stack) -> set[str]:
    """Return the runs that there are."""
    runs = stack.api.call("GET", f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
    return {run["dag_run_id"] for run in runs}


def run_of(stack: Stack, before: set[str]) -> str:
    """Return the run that came in after `before`, ended."""
    assert wait_until(lambda: len(run_ids(stack) - before) == 1, 15, 0.5)
    (run_id,) = run_ids(stack) - before
    ended = lambda: stack.api.run(DAG_ID, run_id).state in ("success", "failed")  # noqa: E731
    assert wait_until(ended, RUN_SECONDS, 0.5)
    return run_id


def test_a_number_out_of_bounds_is_refused_by_name_and_the_log_says_so_first(
    stack: Stack, open_page: OpenPage
) -> None:
    before = run_ids(stack)
    page = open_page(f"/dags/{DAG_ID}")
    form = trigger_form(page)
    n_factors = field(form, "Rating head: als", N_FACTORS)
    expect(form).to_contain_text("Number of factors. Takes: integer from 1 to 512.")

    n_factors.fill("9999")
    n_factors.blur()
    expect(n_factors).to_have_value("9999")
    submit(form)
    run_id = run_of(stack, before)
    states = {task.task_id: task.state for task in stack.api.tasks(DAG_ID, run_id)}
    assert (states["start"], states["ingest"]) == ("failed", "upstream_failed")

    page.goto(f"/dags/{DAG_ID}/runs/{run_id}/tasks/start")
    errors = page.get_by_text(re.compile("ERROR"))
    errors.first.wait_for()
    log = page.get_by_test_id("virtualized-list").or_(page.get_by_role("tabpanel")).first
    said = f"start failed (ConfigError, exit code 2): {N_FACTORS}: expected integer from 1 to 512"
    expect(log).to_contain_text(f"{said}, got '9999'")
    expect(log).to_contain_text("What to do: correct the settings and trigger again.")
    shown = log.inner_text()
    assert shown.index("ERROR") < shown.index(said) < shown.index("Task exited")
    assert "Traceback" not in shown

    link = page.get_by_role("link", name="/mf/runbook#start")
    address = link.get_attribute("href")
    assert address is not None
    page.goto(address)
    expect(page.get_by_role("heading", name="Runbook", exact=True)).to_be_visible()


def test_a_word_for_a_number_starts_no_run_and_stays_what_was_typed(
    stack: Stack, open_page: OpenPage
) -> None:
    before = run_ids(stack)
    form = trigger_form(page := open_page(f"/dags/{DAG_ID}"))
    n_factors = field(form, "Rating head: als", N_FACTORS)
    n_factors.fill("many")
    n_factors.blur()
    expect(n_factors).to_have_value("many")
    submit(form)

    refusal = rf"^Invalid input for param {re.escape(N_FACTORS)}.*many"
    expect(page.get_by_text(re.compile(refusal, re.DOTALL))).to_be_visible()
    assert run_ids(stack) == before


def test_an_emptied_number_is_asked_for_and_is_not_the_default(open_page: OpenPage) -> None:
    form = trigger_form(open_page(f"/dags/{DAG_ID}"))
    n_factors = field(form, "Rating head: als", N_FACTORS)
    n_factors.fill("")
    n_factors.blur()

    expect(n_factors).to_have_value("")
    expect(form.get_by_text("This field is required")).to_be_visible()
    expect(form.get_by_role("button", name="Trigger", exact=True)).to_be_disabled()


def test_the_rollback_form_lists_the_versions_and_takes_one_of_them(
    stack: Stack, empty: Engine, open_page: OpenPage, tmp_path: Path
) -> None:
    assert stack.api.call("GET", f"/dags/{ROLLBACK}")["is_paused"] is False
    world = make_world(empty, tmp_path)
    first, second, _ = (publish_one(world, night) for night in ("one", "two", "three"))

    page = open_page(f"/dags/{ROLLBACK}")
    details = f"/dags/{ROLLBACK}/details"
    known = lambda: f"which is version {second}" in str(stack.api.call("GET", details))  # noqa: E731
    assert wait_until(known, PARSE_SECONDS, 1)
    page.reload()
    form = trigger_form(page)
    expect(form).to_contain_text(f"empty: the one that was live before, which is version {second}")
    rows = form.get_by_role("row")
    expect(rows).to_have_count(3)
    for row, version in ((1, second), (2, first)):
        expect(rows.nth(row)).to_contain_text(
            re.compile(rf"^{version}20\d\d-.* to 20\d\d-.* UTCRMSE 0\.\d+, NDCG@5 0\.\d+$")
        )

    # What the field offers can be taken as it stands.
    offered = form.locator("datalist option").nth(1).get_attribute("value")
    assert offered is not None
    assert offered.startswith(f"{first} - live 20")
    form.locator('[id="element_model_version"]').fill(offered)
    submit(form)

    def is_live() -> bool:
        """Say whether readers see the chosen version."""
        with empty.connect() as connection:
            return connection.exec_driver_sql("SELECT model_version FROM mf.live").scalar() == first

    assert wait_until(is_live, RUN_SECONDS, 0.5)
    assert pipeline.rollback(world.place, second).model_version == second
