"""A whole night with its source and its artifacts in a real S3 server: `mf run`, real training.

The process is killed in the middle of a checkpoint, and the server goes away in the middle of the
next try. What comes of it in the end is what comes of an undisturbed night on a disk.
"""

import hashlib
import os
import signal
import subprocess
import uuid
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import Engine

from mf_core.data.artifacts import check_artifact
from mf_core.data.store import files_below, store_path
from mf_core.warehouse import lineage, transaction
from tests.s3 import BUCKET, Door, Moment, backdoor

from .test_cli import MF, SMALL, Mf
from .test_publish import rows
from .worlds import make_ratings

SETTINGS = [
    *SMALL,
    "--set=run.force=true",
    "--set=train.checkpoint_seconds=0",
    "--set=rating_head.als.iterations=4",
    "--set=ranking_head.iterations=4",
]


@pytest.fixture
def mf(warehouse_url: str, tmp_path: Path, s3: Door) -> Mf:
    """`mf` on an empty warehouse, its artifacts in the S3 server."""
    return Mf(
        MF_DATABASE_URL=warehouse_url,
        MF_ARTIFACT_ROOT=f"s3://{BUCKET}/{uuid.uuid4().hex}/a b%20+#ü",
        MF_GPU_LOCK=str(tmp_path / "lock"),
    )


def lists_md5(engine: Engine) -> str:
    """Return the md5 over all that readers see, but for the version and the time."""
    query = """
        SELECT user_id, rank, item_id, score, predicted_rating, predicted_rating_sd, source
        FROM mf.recommendations ORDER BY user_id, rank
    """
    found = [tuple(row) for row in rows(engine, query)]
    assert found
    return hashlib.md5(repr(found).encode(), usedforsecurity=False).hexdigest()


def disturbed(mf: Mf, door: Door, act_on: str, status: int | None, *arguments: str) -> int:
    """Run `mf`; from the first write below `act_on` on, kill it or let the server fail.

    Returns the exit code.
    """
    process = subprocess.Popen(
        [*MF, *arguments],
        env=mf.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    reached = False

    def act(method: str, path: str, now: Moment) -> int | None:
        nonlocal reached
        reached = reached or (method == "PUT" and act_on in path)
        if not reached or now == "before":
            return None
        if status is None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return status

    with door.acting(act):
        _, mf.errors = process.communicate(timeout=200)
    assert reached
    return process.returncode


def test_a_night_in_an_object_store_gives_the_lists_of_one_on_a_disk(
    mf: Mf, s3: Door, engine: Engine, tmp_path: Path
) -> None:
    csv = tmp_path / "ratings.csv"
    make_ratings().rename(columns={"rated_at": "timestamp"}).to_csv(csv, index=False)
    on_disk = {**mf.environ, "MF_ARTIFACT_ROOT": (tmp_path / "artifacts").as_uri()}
    Mf(**on_disk)("run", f"--set=source.uri={csv}", *SETTINGS)
    expected = lists_md5(engine)

    source = f"{BUCKET}/{uuid.uuid4().hex}/ratings.csv"
    backdoor(s3).pipe_file(source, csv.read_bytes())
    night = ["run", "--key", "night", f"--set=source.uri=s3://{source}", *SETTINGS]
    assert disturbed(mf, s3, "/checkpoints/", None, *night) == -signal.SIGKILL
    assert disturbed(mf, s3, "/evaluated/ranking/", 503, *night) == 11
    assert "could not be written" in mf.errors
    assert "Traceback" not in mf.errors
    assert lists_md5(engine) == expected

    published = mf.json(*night)
    assert "resuming after iteration" in mf.errors
    assert published["previous_version"] == 1
    assert lists_md5(engine) == expected
    _is_whole(engine, mf.environ["MF_ARTIFACT_ROOT"], published["model_version"])
    assert not [child for child in psutil.Process().children() if "training" in child.cmdline()]


def _is_whole(engine: Engine, root: str, version: int) -> None:
    """Make sure that the store has the night's artifacts, each byte of them, and nothing else."""
    artifacts = []
    with transaction(engine) as connection:
        split = lineage.load_split_ref(connection, version)
        artifacts.append((split.uri, split.sha256))
        for stage in ("evaluated", "refit"):
            model = lineage.load_model_ref(connection, version, stage)
            artifacts.append((model.heads["rating"].uri, model.heads["rating"].sha256))
            artifacts.append((model.heads["ranking"].uri, model.heads["ranking"].sha256))
    for uri, sha256 in artifacts:
        assert uri.startswith(root)
        check_artifact(uri, sha256)

    folders = {name.rpartition("/")[0] for name in files_below(store_path(root))}
    # Results and seals; the night on the disk was published as well, so it has a seal here too.
    bookkeeping = {f"{root}/models/{version}{stage}" for stage in ("", "/evaluated", "/refit")}
    bookkeeping.add(f"{root}/models/1")
    assert {f"{root}/{folder}" for folder in folders} == {uri for uri, _ in artifacts} | bookkeeping


def test_a_store_that_cant_be_used_ends_a_night_before_any_work(mf: Mf, engine: Engine) -> None:
    mf.environ["MF_ARTIFACT_ROOT"] = "s3://no-such-bucket/mf"
    mf("run", *SETTINGS, code=11)
    [line] = [line for line in mf.errors.splitlines() if line.startswith("mf: ")]
    assert "s3://no-such-bucket/mf" in line
    assert "there is no such bucket" in line
    assert rows(engine, "SELECT * FROM mf.ingest_batches") == []
    [(outcome, step)] = rows(engine, "SELECT outcome, step FROM mf.runs")
    assert (outcome, step) == ("failed", "start")
