"""A real browser on a real stack: Debian's Chromium, Airflow's web application, a warehouse.

`make test-browser` runs these tests. `make test` leaves them out: no browser comes with the locked
Python packages.
"""

import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sqlalchemy.engine import Engine

from demo.launcher import Stack, temporary_stack
from demo.layout import REPOSITORY, Layout
from demo.run import DAG_ID
from demo.settings import ADMIN
from mf_core.warehouse import database_engine, transaction
from tests.db.histories import forget_all

# No sandbox, since tests may run as root; and nothing that talks to anybody else.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT_MS = 15_000

OpenPage = Callable[..., Page]
"""Opens a path of the stack as a logged-in user: `open_page("/mf/", width=400, dark=True)`."""


def pytest_configure() -> None:
    """Refuse to start without a browser: these tests are never skipped."""
    chromium()


def chromium() -> Path:
    """Return the browser: MF_CHROMIUM, or the one that the system has."""
    named = os.environ.get("MF_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    if not os.access(named, os.X_OK):
        raise pytest.UsageError(
            f"these tests need a browser, and {named} is none. Install Chromium (Debian: apt-get "
            "install chromium), or name one: MF_CHROMIUM=/path/to/chromium make test-browser."
        )
    return Path(named)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of these tests' own, with the DAGs read."""
    layout = Layout(REPOSITORY, tmp_path_factory.mktemp("stack") / "var")
    layout.make_folders()
    with temporary_stack(layout, lambda _: None, preferred_port=0) as running:
        running.api.wait_for_dag(DAG_ID, 60)
        yield running


@pytest.fixture(scope="session")
def warehouse(stack: Stack) -> Iterator[Engine]:
    """The stack's warehouse, as `mf_writer`."""
    engine = database_engine(stack.state.warehouse_url)
    yield engine
    engine.dispose()


@pytest.fixture
def empty(warehouse: Engine) -> Engine:
    """The stack's warehouse without anything in it."""
    with transaction(warehouse) as connection:
        forget_all(connection)
    return warehouse


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser; each test gets a profile of its own."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def open_page(stack: Stack, browser: Browser) -> Iterator[OpenPage]:
    """Open pages of the stack; a test fails if one of its pages met an error in a script."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []

    def _open(
        path: str, *, user: str = ADMIN, width: int = 1200, height: int = 900, dark: bool = False
    ) -> Page:
        context = browser.new_context(
            base_url=stack.state.address,
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        context.set_default_timeout(TIMEOUT_MS)
        log_in(context, stack, user)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path)
        return page

    yield _open
    for context in contexts:
        context.close()
    assert not errors


def log_in(context: BrowserContext, stack: Stack, user: str) -> None:
    """Give the browser the cookie that Airflow's login form would give it."""
    login = {"username": user, "password": password_of(stack, user)}
    request = urllib.request.Request(
        f"{stack.state.address}/auth/token",
        data=json.dumps(login).encode(),
        headers={"Content-Type": "application/json"},
    )
    # A proxy that the environment names is not for a server on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        token = json.load(answer)["access_token"]
    context.add_cookies([{"name": "_token", "value": token, "url": stack.state.address}])


def password_of(stack: Stack, user: str) -> str:
    """Return the password of one of the stack's users."""
    passwords: dict[str, str] = json.loads(stack.layout.passwords_file.read_text())
    return passwords[user]
