"""No password, token or signature of a URI is shown or stored."""

import json

import pytest

from mf_core.config import make_config
from mf_core.data.artifacts import read_manifest
from mf_core.deployment import shown_default
from mf_core.errors import InputError, MFError
from mf_core.records import SplitRef
from mf_core.redaction import reason_of, redacted, without_secrets
from mf_core.sources.source import open_source
from mf_core.training.manifest import Manifest

SECRET = "hush"
URIS = {
    "s3://bucket/ratings.csv": "s3://bucket/ratings.csv",
    "/data/a b@c?d#e.csv": "/data/a b@c?d#e.csv",
    "sftp://me:hush@host/path": "sftp://***@host/path",
    "https://hush@host/path": "https://***@host/path",
    "https://host/r.csv?sig=hush&se=2026": "https://host/r.csv?***",
    "https://host/r.csv#hush": "https://host/r.csv#***",
    "https://me:hush@host/r.csv?sig=hush": "https://***@host/r.csv?***",
    # Passwords that were not percent-encoded.
    "postgresql://me:hu@sh/hush:@host/db": "postgresql://***@host/db",
    "postgresql://me:/hush@host/db": "postgresql://***@host/db",
    "postgresql://me:hush#hush@host/db": "postgresql://***",
    "postgresql://me:?hush@host/db": "postgresql://***",
    "https://host/r.csv?mail=a@hush": "https://***",
    # Chains.
    "simplecache::s3://bucket/r.csv": "simplecache::s3://bucket/r.csv",
    "simplecache::https://me:hush@host/r.csv?sig=hush": "simplecache::https://***@host/r.csv?***",
    "zip://r.csv::https://me:hush@host/r.zip?sig=hush": "zip://***@host/r.zip?***",
    "https://a/r.csv?sig=hush::https://b/r.csv?sig=hush": "https://a/r.csv?***",
    "https:/me:hush@host/r.csv": "https:/***@host/r.csv",
    "HTTPS://host/?hush": "HTTPS://host/?***",
}


@pytest.mark.parametrize("uri", URIS)
def test_a_uri_is_shown_without_its_secrets(uri: str) -> None:
    assert redacted(uri) == URIS[uri]
    assert redacted(redacted(uri)) == URIS[uri]
    assert SECRET not in redacted(uri)


def test_a_message_is_shown_without_the_secrets_of_its_uris() -> None:
    said = without_secrets(
        "(https://me:hush@h/x?sig=hush) failed, as did\ns3://b/k?t=hush; see a/b#c"
    )
    assert said == "(https://***@h/x?*** failed, as did\ns3://b/k?*** see a/b#c"


def test_what_a_library_says_of_a_uri_with_secrets_is_not_shown() -> None:
    quoted = ValueError("no such path /r.csv?sig=hush")
    assert reason_of(quoted, "https://host/r.csv?sig=hush") == "ValueError"
    assert reason_of(quoted, "https://host/r.csv") == str(quoted)


def test_settings_are_stored_without_secrets() -> None:
    uris = ("uri", "test_uri", "items_uri", "users_uri")
    config = make_config({f"source.{name}": "https://me:hush@h/x?sig=hush" for name in uris})
    split = SplitRef(1, "s", "d", "file:///s", "0" * 64, 7, 3, 5, 4, 0, 0, 0, news=True)
    manifest = Manifest.of(config, split, "evaluated", "file:///artifacts", parent_pid=1)

    assert SECRET not in json.dumps(config.for_record())
    assert SECRET not in manifest.to_json()
    assert manifest.settings().fingerprint("model") == config.fingerprint("model")
    for name in uris:
        assert SECRET not in shown_default(f"source.{name}", "https://me:hush@h/x?sig=hush")


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9/r.csv?sig=hush",
        "http://me:hush@127.0.0.1:9/r.csv",
        "http://127.0.0.1:9/r .csv?sig=hush",
        "ftp://me:hush@127.0.0.1:9/r.csv",
        "nosuch://me:hush@host/r.csv?sig=hush",
        "simplecache::nosuch://me:hush@host/r.csv?sig=hush",
        "memory://hush@nowhere/r.csv?sig=hush",
    ],
)
def test_an_error_shows_no_secret_and_no_cause_that_would(uri: str) -> None:
    with pytest.raises(MFError) as refusal, open_source(make_config({"source.uri": uri}), {}):
        pass
    assert SECRET not in str(refusal.value)
    # A task's log shows what an error was raised from.
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_a_refused_setting_is_quoted_without_secrets() -> None:
    long = "https://me:hush@h/x?sig=hush" + "x" * 3000
    with pytest.raises(MFError) as refusal:
        make_config({"source.uri": long})
    assert SECRET not in str(refusal.value)


def test_an_artifact_that_is_missing_is_named_without_secrets() -> None:
    with pytest.raises(MFError) as refusal:
        read_manifest("memory://me:hush@store/models/1", "0" * 64)
    assert SECRET not in str(refusal.value)
    assert isinstance(refusal.value, MFError)
    assert not isinstance(refusal.value, InputError)
