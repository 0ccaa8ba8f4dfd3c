"""The form of `mf_rollback`: it helps to choose, refuses no number, and never holds up a parser."""

import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from mf_core.catalogue import DEFAULT
from mf_core.warehouse.rollbacks import RollbackChoice

CHOICES = [
    RollbackChoice(
        model_version=12,
        live_from=datetime(2026, 11, 24, 2, 13, tzinfo=UTC),
        live_until=datetime(2026, 11, 25, 2, 10, tzinfo=UTC),
        rmse=0.87634,
        ndcg=0.41,
        cutoff=10,
        is_default=True,
    ),
    RollbackChoice(
        model_version=9,
        live_from=datetime(2026, 11, 20, 2, 11, tzinfo=UTC),
        live_until=datetime(2026, 11, 21, 2, 12, tzinfo=UTC),
        rmse=None,
        ndcg=None,
        cutoff=None,
        is_default=False,
    ),
]


def _form(monkeypatch: pytest.MonkeyPatch, choices: Sequence[RollbackChoice]) -> Any:
    from mf_dags import rollbacks
    from mf_dags.sites import Site

    monkeypatch.setattr(rollbacks, "_choices", lambda site: choices)
    return rollbacks.version_param(Site(DEFAULT))


def test_the_form_lists_the_versions_their_times_and_figures_and_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form = _form(monkeypatch, CHOICES)
    help_text = form.schema["description_md"]
    assert "empty: the one that was live before, which is version 12." in help_text
    period = "2026-11-24 02:13 to 2026-11-25 02:10 UTC"
    assert f"| 12 | {period} | RMSE 0.8763, NDCG@10 0.4100 |" in help_text
    assert form.schema["examples"] == [
        f"12 - live {period}, RMSE 0.8763, NDCG@10 0.4100, the default",
        "9 - live 2026-11-20 02:11 to 2026-11-21 02:12 UTC, figures unknown",
    ]


def test_the_same_versions_make_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow keeps a new version of a DAG whose serialized form has changed."""
    first, again = (_form(monkeypatch, CHOICES) for _ in range(2))
    assert first.dump() == again.dump()


@pytest.mark.parametrize(
    ("sent", "version"),
    [(None, None), (12, 12), ("12", 12), ("9 - live 2026-11-20, figures unknown", 9), ("77", 77)],
)
def test_any_version_may_be_chosen_from_the_list_typed_or_sent(
    monkeypatch: pytest.MonkeyPatch, sent: str | int | None, version: int | None
) -> None:
    from mf_dags.rollbacks import chosen_version

    # The list may be stale: a number that is not on it is none of the form's business.
    assert chosen_version(_form(monkeypatch, CHOICES).resolve(sent)) == version


@pytest.mark.parametrize("sent", ["the last one", "", "0", 0, -3, "12x", 1.5])
def test_what_names_no_version_is_refused(monkeypatch: pytest.MonkeyPatch, sent: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        _form(monkeypatch, CHOICES).resolve(sent)


def test_a_silent_warehouse_does_not_hold_up_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    from mf_dags.rollbacks import version_param
    from mf_dags.sites import Site

    # Takes connections and never answers.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("MF_DATABASE_URL", f"postgresql://mf@127.0.0.1:{port}/warehouse")
        started = time.monotonic()
        form = version_param(Site(DEFAULT))
    assert time.monotonic() - started < 8
    assert form.schema["examples"] == []
    assert "`mf history` lists them" in form.schema["description_md"]
    assert form.resolve("7") == "7"


@pytest.mark.parametrize(
    ("dag_id", "asks"), [("mf_retrain", False), ("mf_retrain_films", False), ("mf_rollback", True)]
)
def test_a_worker_that_reads_the_file_for_another_dag_asks_no_warehouse(
    monkeypatch: pytest.MonkeyPatch, dag_id: str, asks: bool
) -> None:
    from airflow.sdk.definitions._internal.dag_parsing_context import (
        _airflow_parsing_context_manager,
    )

    from mf_dags.rollbacks import version_param
    from mf_dags.sites import Site

    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        port = silent.getsockname()[1]
        monkeypatch.setenv("MF_DATABASE_URL", f"postgresql://mf@127.0.0.1:{port}/warehouse")
        with _airflow_parsing_context_manager(dag_id, "train"):
            form = version_param(Site(DEFAULT))
        # Whoever has asked waits in the queue of connections, though he has gone.
        try:
            silent.accept()[0].close()
            asked = True
        except BlockingIOError:
            asked = False
    assert asked == asks
    assert form.resolve("7") == "7"


@pytest.mark.parametrize("url", ["", "nonsense", "postgresql://nobody@127.0.0.1:1/warehouse"])
def test_without_a_warehouse_the_dag_parses_all_the_same(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    from mf_dags.rollbacks import version_param
    from mf_dags.sites import Site

    monkeypatch.setenv("MF_DATABASE_URL", url)
    assert version_param(Site(DEFAULT)).schema["examples"] == []


def test_a_rollback_is_not_created_paused(dagbag: Any) -> None:
    assert dagbag.dags["mf_rollback"].is_paused_upon_creation is False
    assert dagbag.dags["mf_rollback"].schedule is None
