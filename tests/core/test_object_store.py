"""Artifacts in a real S3 server: kills at every request, a server that fails, hostile names."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from mf_core.data import store
from mf_core.data.artifacts import (
    MANIFEST,
    check_artifact,
    read_file,
    read_manifest,
    remove_artifact,
    sweep,
    write_artifact,
)
from mf_core.errors import ArtifactError, ArtifactStoreError, ConfigError
from mf_core.training.manifest import seal, stored_versions
from tests.damage import DAMAGES, do_damage
from tests.s3 import BUCKET, Door, Moment, backdoor, keys_below, keys_count, killed_at

FILES = {f"{n}.npy": bytes([n]) * 100 for n in range(2)}
NAMES = sorted([*FILES, MANIFEST])
# What S3 allows, and what URIs, globs and paths of a disk take for something else.
HOSTILE = "a b%20+#[ü]*?&=;$(x)"


@pytest.fixture
def root(s3: Door) -> str:
    """URI of an artifact root that nobody else uses."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


def test_a_writer_killed_at_any_request_leaves_nothing_that_counts_and_a_clean_run_ends_it(
    root: str, s3: Door
) -> None:
    uri = f"{root}/snapshots/a"
    number = 0
    while killed_at(number, s3, write_artifact, uri, FILES, {}):
        left = {key.rpartition("/")[2] for key in keys_below(root, s3)}
        # The manifest comes last: where it stands, all stands.
        assert MANIFEST not in left or left == set(NAMES)

        sha256 = write_artifact(uri, FILES, {})
        check_artifact(uri, sha256)
        assert keys_below(root, s3) == [f"snapshots/a/{name}" for name in NAMES]
        remove_artifact(uri)
        number += 1
    assert number > len(FILES)


def test_one_who_mends_and_is_killed_at_any_request_takes_nothing_away(root: str, s3: Door) -> None:
    uri = f"{root}/models/1/evaluated/rating"
    sha256 = write_artifact(uri, FILES, {})
    manifest = read_manifest(uri, sha256)
    number = 0
    while True:
        do_damage(store.store_path(uri) / "1.npy", DAMAGES[number % len(DAMAGES)])
        if not killed_at(number, s3, write_artifact, uri, FILES, {}):
            break
        read_file(uri, "0.npy", manifest)
        assert write_artifact(uri, FILES, {}) == sha256
        check_artifact(uri, sha256)
        number += 1
    assert number > len(FILES)
    check_artifact(uri, sha256)


def test_other_content_in_its_place_is_never_taken_for_the_old_one(root: str, s3: Door) -> None:
    uri = f"{root}/checkpoints/1-refit/rating-0"
    before = write_artifact(uri, {"x": b"1", "y": b"1"}, {})
    number = 0
    while killed_at(number, s3, write_artifact, uri, {"x": b"2"}, {}):
        other = write_artifact(uri, {"x": b"2"}, {})
        check_artifact(uri, other)
        with pytest.raises(ArtifactError):
            check_artifact(uri, before)
        assert keys_below(root, s3) == [
            f"checkpoints/1-refit/rating-0/{name}" for name in (MANIFEST, "x")
        ]
        assert write_artifact(uri, {"x": b"1", "y": b"1"}, {}) == before
        number += 1
    assert number > 2


def test_a_pruner_killed_at_any_request_leaves_no_artifact_that_looks_whole(
    root: str, s3: Door
) -> None:
    uri = f"{root}/snapshots/a"
    number = 0
    sha256 = write_artifact(uri, FILES, {})
    while killed_at(number, s3, remove_artifact, uri):
        left = {key.rpartition("/")[2] for key in keys_below(root, s3)}
        assert MANIFEST not in left or left == set(NAMES)
        remove_artifact(uri)
        assert keys_below(root, s3) == []
        assert write_artifact(uri, FILES, {}) == sha256
        number += 1
    assert number > len(FILES)


@pytest.mark.parametrize("status", [403, 503])
def test_a_server_that_fails_from_any_request_on_is_one_kind_of_error(
    root: str, s3: Door, status: int
) -> None:
    uri = f"{root}/snapshots/a"
    for number in range(20):
        said = _written_to_a_server_that_fails(uri, s3, status, number)
        if said is None:
            break
        assert "docs/runbook.md#artifact-store" in said
        assert status != 403 or "refuses" in said
        sha256 = write_artifact(uri, FILES, {})
        check_artifact(uri, sha256)
        remove_artifact(uri)
    assert number > len(FILES)


def _written_to_a_server_that_fails(uri: str, s3: Door, status: int, after: int) -> str | None:
    """Write an artifact to a server that fails after so many requests; return what is said."""
    seen = 0

    def fail(_method: str, _path: str, now: Moment) -> int | None:
        nonlocal seen
        seen += now == "before"
        return status if now == "before" and seen > after else None

    try:
        with s3.acting(fail):
            write_artifact(uri, FILES, {})
    except ArtifactStoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("method", "done"), [("PUT", "written"), ("GET", "read"), ("DELETE", "removed")]
)
def test_each_right_that_is_lacking_is_named_before_any_work(
    root: str, s3: Door, method: str, done: str
) -> None:
    def refuse(asked: str, _path: str, now: Moment) -> int | None:
        return 403 if now == "before" and asked == method else None

    with s3.acting(refuse), pytest.raises(ArtifactStoreError, match=f"{done}: the store refuses"):
        store.try_store(store.store_path(root))


def test_a_try_leaves_nothing(root: str, s3: Door) -> None:
    store.try_store(store.store_path(f"{root}/snapshots"))
    assert keys_below(root, s3) == []


def test_a_store_that_gives_back_something_else_is_not_used(
    s3: Door, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    def overwrite(method: str, path: str, now: Moment) -> None:
        if method == "PUT" and now == "after":
            backdoor(s3).pipe_file(path.strip("/"), b"something else")

    with s3.acting(overwrite), pytest.raises(ArtifactStoreError, match="does not give back"):
        store.try_store(store.store_path(root))


def test_no_bucket_is_said_and_none_is_made(s3: Door) -> None:
    for work in (
        lambda: store.try_store(store.store_path("s3://nowhere/x")),
        lambda: write_artifact("s3://nowhere/x", FILES, {}),
        lambda: seal("s3://nowhere", 1),
    ):
        with pytest.raises(ArtifactStoreError, match="no such bucket"):
            work()
    assert "nowhere" not in backdoor(s3).ls("")


def test_wrong_keys_are_said(root: str, s3: Door) -> None:
    with keys_count(s3), pytest.raises(ArtifactStoreError, match="the store refuses it"):
        store.try_store(store.store_path(root))


def test_no_credentials_are_said(root: str, s3: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for work in (
        lambda: store.try_store(store.store_path(root)),
        lambda: stored_versions(root),
        lambda: check_artifact(root, "0" * 64),
        lambda: sweep(root),
    ):
        with pytest.raises(ArtifactStoreError, match="no credentials for the store were found"):
            work()


def test_a_server_that_is_not_there_is_said(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ArtifactStoreError, match="the store does not answer"):
        store.try_store(store.store_path(root))


def test_a_server_that_is_silent_is_given_up_in_time(
    root: str, s3: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shipped it takes 150 seconds; here each of the ten tries has a tenth of one."""
    settings = store.client_settings("s3")
    assert settings["config_kwargs"]["read_timeout"] == 15
    monkeypatch.setitem(settings["config_kwargs"], "read_timeout", 0.1)
    before = time.monotonic()
    with s3.silent(), pytest.raises(ArtifactStoreError, match="the store does not answer"):
        store.try_store(store.store_path(root))
    assert time.monotonic() - before < 20


@pytest.mark.parametrize("scheme", ["s3", "gs", "abfs"])
def test_a_missing_package_is_named_with_its_extra(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mf_core.extras.find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"pip install 'mf-retrain\[(s3|gcs|azure)\]'"):
        store.store_path(f"{scheme}://bucket/x")


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="URI that fsspec can open"):
        store.store_path("nonsense://bucket/x")


def test_a_name_may_hold_what_it_likes(root: str, s3: Door) -> None:
    strange = f"{root}/{HOSTILE}"
    mine = write_artifact(f"{strange}/models/1/refit/rating", FILES, {})
    other = write_artifact(f"{strange}/models/10/refit/rating", FILES, {})
    seal(strange, 1)
    check_artifact(f"{strange}/models/1/refit/rating", mine)
    assert set(stored_versions(strange)) == {1, 10}
    sweep(strange)

    remove_artifact(f"{strange}/models/1")
    assert set(stored_versions(strange)) == {10}
    check_artifact(f"{strange}/models/10/refit/rating", other)
    store.try_store(store.store_path(strange))
    assert keys_below(strange, s3) == [f"models/10/refit/rating/{name}" for name in NAMES]


def test_writers_side_by_side_do_not_disturb_each_other(root: str) -> None:
    uri = f"{root}/snapshots/a"
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(lambda _: write_artifact(uri, FILES, {}), range(8)))
    assert len(set(written)) == 1
    check_artifact(uri, written[0])


def test_what_others_write_meanwhile_is_seen(root: str, s3: Door) -> None:
    folder = store.store_path(f"{root}/models")
    write_artifact(f"{root}/models/1/refit/rating", FILES, {})
    assert store.names_in(folder) == ["1"]
    backdoor(s3).pipe_file(f"{folder.path}/2/x", b"")
    assert store.names_in(folder) == ["1", "2"]
    assert store.exists(folder / "2" / "x")


def test_what_has_no_manifest_counts_as_left_by_its_age(root: str, s3: Door) -> None:
    whole = write_artifact(f"{root}/snapshots/whole", FILES, {})
    half = store.store_path(f"{root}/snapshots/half")
    store.write(half / "x", b"")
    sweep(root)
    assert store.exists(half)
    assert not store.is_abandoned(half)
    assert store.is_abandoned(half, longer_than=timedelta(0))
    check_artifact(f"{root}/snapshots/whole", whole)


def test_what_is_swept_is_listed_once(root: str, s3: Door) -> None:
    for artifact in ("snapshots/a", "models/1/refit/rating", "checkpoints/1-refit/rating"):
        write_artifact(f"{root}/{artifact}", FILES, {})
    listed = []

    def note(method: str, path: str, now: Moment) -> None:
        if now == "before" and method == "GET" and path.strip("/") == BUCKET:
            listed.append(path)

    with s3.acting(note):
        sweep(root)
    assert len(listed) == 3


def test_a_trial_file_of_a_process_that_is_gone_is_swept(root: str, s3: Door) -> None:
    assert killed_at(0, s3, _try, f"{root}/snapshots")
    assert len(keys_below(root, s3)) == 1
    sweep(root)
    assert keys_below(root, s3) == []


def _try(folder: str) -> None:
    store.try_store(store.store_path(folder))
