"""Ratings in a real S3 server, with the worker's own credentials or an Airflow connection's."""

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from mf_core.config import Config, make_config
from mf_core.deployment import Deployment, TriggerRules
from mf_core.errors import ConfigError, InputError, MFError
from mf_core.sources.connections import credentials
from mf_core.sources.metadata import read_items
from mf_core.sources.reach import Permit, Reach
from mf_core.sources.source import open_source
from mf_core.sources.spool import SourceUnavailableError
from tests.s3 import (
    BUCKET,
    Door,
    backdoor,
    forget_clients,
    keys_count,
    keys_of_a_reader,
)

CSV = b"user_id,item_id,rating\n1,10,4\n1,11,3\n2,10,5\n"
ITEMS = b"item_id,title\n10,Ten\n11,Eleven\n"


@pytest.fixture
def uri(s3: Door) -> str:
    """URI of ratings, whose items lie beside them."""
    return put(s3, f"{BUCKET}/{uuid.uuid4().hex}")


def put(s3: Door, folder: str) -> str:
    """Put ratings and items into a folder; return the URI of the ratings."""
    backdoor(s3).pipe_file(f"{folder}/ratings.csv", CSV)
    backdoor(s3).pipe_file(f"{folder}/items.csv", ITEMS)
    return f"s3://{folder}/ratings.csv"


def connection(login: str = "", password: str = "", kind: str = "aws", **extra: Any) -> str:
    """Return a connection as Airflow gives it, its extras as JSON."""
    user = f"{quote(login, safe='')}:{quote(password, safe='')}@" if login else ""
    return f"{kind}://{user}/?{urlencode({'__extra__': json.dumps(extra)})}"


def reach(known: Mapping[str, str], own: Config | None = None, /, **rules: Any) -> Reach:
    """Return what a run reaches in Airflow that somebody triggered."""
    deployment = Deployment(own or Config(), trigger=TriggerRules(**rules))
    return Reach(deployment, by_trigger=True, find_connection=known.get)


def load(uri: str, reach: Reach | None = None, **settings: str) -> int:
    """Read ratings and items; return how many rows those are."""
    items = uri.replace("ratings.csv", "items.csv")
    dotted = {"source.uri": uri, "source.items_uri": items}
    dotted |= {name.replace("__", "."): value for name, value in settings.items()}
    config = make_config(dotted)
    with open_source(config, {}, reach) as source:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        n_rows = sum(chunk.n_read for _, chunk in source.chunks(config, now))
        assert source.items
        return n_rows + len(read_items(source.items(), config.source).rows)


def operators(known: Mapping[str, str]) -> Reach:
    """Return what a nightly run reaches in Airflow."""
    return Reach(find_connection=known.get)


def test_the_worker_s_own_credentials_do_and_names_may_hold_what_they_like(
    uri: str, s3: Door
) -> None:
    assert load(uri) == 5
    assert load(put(s3, f"{BUCKET}/{uuid.uuid4().hex}/a b%20+#[ü]")) == 5


def test_the_keys_of_a_connection_are_used_and_no_others(
    uri: str, s3: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = keys_of_a_reader(s3)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    known = {
        "the_store": connection(key, secret, endpoint_url=s3.url, region_name="us-east-1"),
        "by_extra": connection(
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            service_config={"s3": {"endpoint_url": s3.url}},
            endpoint_url="http://127.0.0.1:1",
        ),
        "twice": connection(
            key,
            secret,
            aws_access_key_id="another",
            aws_secret_access_key="another",
            endpoint_url=s3.url,
        ),
        "wrong": connection(key, "wrong" + secret, endpoint_url=s3.url),
    }
    with keys_count(s3):
        assert load(uri, operators(known), source__connection="the_store") == 5
        assert load(uri, operators(known), source__connection="by_extra") == 5
        assert load(uri, operators(known), source__connection="twice") == 5
        with pytest.raises(InputError, match="the store refuses it") as refused:
            load(uri, operators(known), source__connection="wrong")
    assert secret not in str(refused.value)


def test_who_triggers_may_name_a_bucket_with_a_connection_that_are_both_listed(
    uri: str, s3: Door
) -> None:
    known = {"the_store": connection("k", "s", endpoint_url=s3.url)}
    with_store = {"source__connection": "the_store"}
    bucket: dict[str, Any] = {"schemes": ["s3"], "hosts": [BUCKET]}

    assert load(uri, reach(known, **bucket, connections=["the_store"]), **with_store) == 5
    assert load(uri, reach(known, **bucket)) == 5
    wrong: list[dict[str, Any]] = [
        {},
        {"connections": ["the_store"]},
        bucket,
        {**bucket, "connections": ["another"]},
        {**bucket, "hosts": ["another"], "connections": ["the_store"]},
    ]
    for rules in wrong:
        with pytest.raises(ConfigError, match="a trigger may not reach"):
            load(uri, reach(known, **rules), **with_store)


def test_the_operator_s_place_is_the_operator_s_only_with_the_operator_s_connection(
    uri: str, s3: Door
) -> None:
    known = {name: connection("k", "s", endpoint_url=s3.url) for name in ("own", "other")}
    items = uri.replace("ratings.csv", "items.csv")
    own = make_config({"source.uri": uri, "source.items_uri": items, "source.connection": "own"})
    assert load(uri, reach(known, own), source__connection="own") == 5
    with pytest.raises(ConfigError, match=r"none of trigger|not reach"):
        load(uri, reach(known, own), source__connection="other")
    with pytest.raises(ConfigError, match="a trigger may not reach"):
        load(uri.replace("ratings", "others"), reach(known, own), source__connection="own")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "there is none"),
        ("postgres://u:hidden@host/db", "it is of another type"),
        (connection("k", "hidden", role_arn="arn:aws:iam::1:role/x"), "not known here: role_arn"),
        *(
            (connection("k", "hidden", service_config=unknown), "not known here: service_config")
            for unknown in (
                {"sts": {"endpoint_url": "http://127.0.0.1:1"}},
                {"s3": {"endpoint_url": "http://127.0.0.1:1", "verify": False}},
                {"s3": {"endpoint_url": "http://127.0.0.1:1"}, "sts": {}},
                "http://127.0.0.1:1",
            )
        ),
        ("aws://k:hidden@/?__extra__=%5B1%5D", "its extra is a JSON object"),
    ],
)
def test_a_connection_that_is_no_use_is_said(uri: str, found: str | None, said: str) -> None:
    known = {"the_store": found} if found else {}
    with pytest.raises(ConfigError, match=said) as refused:
        load(uri, operators(known), source__connection="the_store")
    assert "hidden" not in str(refused.value)


def test_outside_airflow_there_are_no_connections(uri: str) -> None:
    with pytest.raises(ConfigError, match="this is not Airflow"):
        load(uri, Reach(), source__connection="the_store")


def test_beside_a_query_the_connection_is_that_of_the_database(uri: str) -> None:
    source = make_config(
        {
            "source.uri": "sql",
            "source.query": "SELECT 1",
            "source.items_uri": uri,
            "source.connection": "replica",
        }
    ).source
    permit = operators({}).permit(source, "items_uri")
    assert credentials(uri, permit) == {}


def test_what_the_store_says_is_in_words(
    uri: str, s3: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="nothing is there"):
        load("s3://nowhere/ratings.csv")
    with keys_count(s3), pytest.raises(InputError, match="the store refuses it"):
        load(uri)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    forget_clients()
    with pytest.raises(SourceUnavailableError, match="no credentials for the store were found"):
        load(uri)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    forget_clients()
    with pytest.raises(SourceUnavailableError, match="the store does not answer"):
        load(uri)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mf_core.extras.find_spec", lambda package: None)
    with pytest.raises(MFError, match=r"pip install 'mf-retrain\[gcs\]'"):
        load("gs://bucket/ratings.csv")


@pytest.mark.parametrize(
    ("extra", "options"),
    [
        ({"key_path": "/keys/mf.json", "project": "p"}, {"token": "/keys/mf.json", "project": "p"}),
        ({"keyfile_dict": '{"a": 1}', "scope": "x"}, {"token": {"a": 1}}),
        ({"extra__google_cloud_platform__key_path": "/k"}, {"token": "/k"}),
        ({}, {}),
    ],
)
def test_the_key_of_a_google_connection(extra: dict[str, str], options: dict[str, Any]) -> None:
    known = {"google": connection(kind="google-cloud-platform", **extra)}
    permit = Permit("source.uri", connection="google", find_connection=known.get)
    assert credentials("gs://bucket/x", permit) == options
    with pytest.raises(ConfigError, match="it is of another type"):
        credentials("s3://bucket/x", permit)


def test_a_google_key_that_cant_be_read_is_said() -> None:
    known = {"google": connection(kind="google-cloud-platform", keyfile_dict="{'hidden': 1}")}
    permit = Permit("source.uri", connection="google", find_connection=known.get)
    with pytest.raises(ConfigError, match="keyfile_dict that is not the JSON of a key") as error:
        credentials("gs://bucket/x", permit)
    assert "hidden" not in str(error.value)
