"""`make demo DATA=events`: what its run is set up with, and a report without ratings."""

import dataclasses
import io

import pytest
from rich.console import Console

from demo.render import print_report
from demo.report import DemoReport, ListedItem
from demo.run import run_conf
from mf_core.config import make_config
from mf_core.errors import ConfigError

EVENTS = DemoReport(
    run_id="one",
    model_version=1,
    champion_version=None,
    verdict="approved",
    published=True,
    reasons=("the source holds events: no ratings are predicted, only lists are judged",),
    source_uri="ml-100k",
    rows_read=100_000,
    rows_rejected=0,
    already_ingested=False,
    total_ratings=100_000,
    split="hash",
    kind="events",
    n_train=70_000,
    n_test=30_000,
    n_users=943,
    n_items=1_682,
    device="CPU",
    test_rmse=None,
    test_mae=None,
    test_average_error=None,
    baseline_rmse=None,
    global_mean_rmse=None,
    champion_rmse=None,
    ndcg=0.4,
    popularity_ndcg=0.2,
    item_item_ndcg=0.39,
    champion_ndcg=None,
    cutoff=10,
    users=943,
    rows_published=9_430,
    known_rating=None,
    shown_user="1",
    shown_list=(ListedItem(1, "50", "Star Wars (1977)", None),),
    seconds={"ingest": 1.0},
)


def shown(report: DemoReport) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_report(console, report)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_report_of_events_shows_lists_beside_the_baselines_and_no_errors_of_ratings() -> None:
    text = shown(EVENTS)
    assert "0.4000 (popularity 0.2000, item-item 0.3900)" in text
    assert " 1. Star Wars (1977)" in text
    assert "(None)" not in text
    assert "RMSE" not in text
    assert "not measured" not in text
    assert "100,000 pairs of user and item in the warehouse" in text
    assert "Test RMSE" in shown(dataclasses.replace(EVENTS, kind="ratings"))


def test_the_demo_of_events_reads_the_same_source_without_a_ceiling_of_errors() -> None:
    conf = run_conf("", data="events")
    assert (conf["source.uri"], conf["data.kind"]) == ("ml-100k", "events")
    assert "gate.max_rmse" not in conf
    assert make_config(conf).heads() == ("ranking",)
    assert "data.kind" not in run_conf("")

    with pytest.raises(ConfigError, match=r"DATA is 'plays', expected ratings or events"):
        run_conf("", data="plays")
    # What does not go with events is refused here, before a stack is started.
    with pytest.raises(ConfigError, match=r"recommend\.rank_by"):
        run_conf("", "recommend.rank_by=rating", "events")
