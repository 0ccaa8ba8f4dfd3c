"""The client of Airflow's REST API, at a server that is slow to answer."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from demo import airflow_api
from demo.airflow_api import AirflowApi

SILENCE_SECONDS = 0.2


class Slow(ThreadingHTTPServer):
    """Gives a number of requests no answer in time, and counts all of them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.unanswered = 0
        self.asked: list[str] = []


class Answer(BaseHTTPRequestHandler):
    """Answers as the API server does where it gives out a token, and one field."""

    server: Slow

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.unanswered:
            self.server.unanswered -= 1
            time.sleep(2 * SILENCE_SECONDS)
            return
        body = json.dumps({"access_token": "t", "is_paused": False}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = _answer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """A server, whose clients wait for it for a moment only."""
    monkeypatch.setattr(airflow_api, "_TIMEOUT_SECONDS", SILENCE_SECONDS)
    with Slow() as slow:
        thread = threading.Thread(target=slow.serve_forever)
        thread.start()
        yield slow
        slow.shutdown()
        thread.join()


def _client(server: Slow) -> AirflowApi:
    return AirflowApi(f"http://127.0.0.1:{server.server_port}", "admin", "password")


def test_what_only_reads_is_asked_again(server: Slow) -> None:
    api = _client(server)
    api.call("GET", "/dags/one")
    server.unanswered = 2
    assert api.call("GET", "/dags/one")["is_paused"] is False
    assert server.asked == ["POST /auth/token", *["GET /api/v2/dags/one"] * 4]


def test_a_server_that_gives_no_answer_is_named(server: Slow) -> None:
    server.unanswered = 3
    with pytest.raises(TimeoutError, match=rf"POST http://127.*:{server.server_port}/auth/token"):
        _client(server).call("GET", "/dags/one")


def test_what_changes_something_is_asked_once(server: Slow) -> None:
    api = _client(server)
    api.call("GET", "/dags/one")
    server.unanswered = 1
    with pytest.raises(TimeoutError):
        api.trigger("one", {})
    assert server.asked[-1] == "POST /api/v2/dags/one/dagRuns"
    assert len(server.asked) == 3
