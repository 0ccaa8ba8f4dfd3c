"""Bring the real compose stack up from a clean clone, disturb it, and take it down without a trace.

    make test-compose                                         # Debian, root, Docker, debootstrap
    make test-compose TEST_COMPOSE_ARGS=--keep-images         # the next run builds nothing again

It prints a table: step, seconds, what was seen. It leaves no container, volume, network or image
of its own, and ends with status 1 at the first step that does not hold.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.compose import doors, hosts, nights, standins, stores, upgrade
from tests.compose.trial import REPOSITORY, Trial, expect

OWN_IMAGES = (
    "mf-retrain:service",
    "mf-retrain:cpu",
    f"{standins.ROOT_IMAGE}:latest",
    *standins.BASES,
)


def clean_clone(trial: Trial) -> str:
    """Copy what git would commit: no .env, no data, no caches."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, check=True).stdout
    files = [name.decode() for name in names.split(b"\0") if name]
    for name in files:
        source, target = REPOSITORY / name, trial.clone / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return f"{len(files)} files"


def make_standins(trial: Trial) -> str:
    """Make the base images that are not there."""
    made = standins.make_missing()
    return f"made {', '.join(made)}" if made else "all base images were there"


def take_down(trial: Trial) -> str:
    """Stop everything and find nothing left."""
    trial.make("compose-down", "VOLUMES=1")
    left = trial.leftovers()
    expect(not left, f"left behind: {', '.join(left)}")
    return "no container, volume or network is left"


STEPS: tuple[Callable[[Trial], str], ...] = (
    clean_clone,
    make_standins,
    nights.first_night,
    nights.nothing_runs_by_itself,
    nights.read_as_reader,
    doors.passwords_are_private,
    doors.each_has_its_own_secrets,
    doors.nothing_else_is_reached,
    doors.the_way_out_is_shut,
    doors.the_training_worker_signs_nothing,
    doors.the_broker_keeps_the_queues_apart,
    doors.roles_are_plain,
    doors.containers_are_bare,
    doors.images_say_what_they_hold,
    nights.name_a_source,
    nights.scale_workers,
    nights.one_training_on_the_host,
    nights.restart_in_train,
    nights.kill_gpu_worker,
    nights.stop_gpu_worker,
    nights.disturbed_night_ends,
    # It also takes the second workers away.
    hosts.other_passwords,
    hosts.one_password,
    hosts.lost_passwords,
    hosts.speak_tls,
    hosts.renew_certificates,
    hosts.artifacts_in_a_folder,
    hosts.train_on_a_second_host,
    hosts.wrong_authority_on_the_second_host,
    upgrade.upgrade_an_older_stack,
    stores.artifacts_in_an_object_store,
    take_down,
)


def run_steps(trial: Trial, table: Table) -> bool:
    """Take the steps in turn and say whether all held."""
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        print(f"== {name}", flush=True)
        started = time.monotonic()
        try:
            seen, holds = step(trial), True
        # Whatever breaks, the table is printed and the stack taken down.
        except Exception as error:
            seen, holds = f"FAILED: {type(error).__name__}: {error}", False
        table.add_row(name, f"{time.monotonic() - started:.1f}", seen)
        if not holds:
            return False
    return True


def clean_up(trial: Trial, before: dict[str, str], dangling: set[str], keep_images: bool) -> None:
    """Remove what a step that failed left, and the images that were not there before."""
    if trial.leftovers() and (trial.clone / "Makefile").exists():
        subprocess.run(
            ["make", "compose-down", "VOLUMES=1"],
            cwd=trial.clone,
            env=trial.environment,
            check=False,
        )
    if keep_images:
        return
    now = standins.images()
    for name in OWN_IMAGES:
        if name in before and now.get(name) != before[name]:
            standins.docker("tag", before[name], name)
        elif name in now and name not in before:
            standins.docker("rmi", "--force", name)
    for image in sorted(_dangling() - dangling):
        subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)


def _dangling() -> set[str]:
    return set(standins.docker("images", "--quiet", "--filter", "dangling=true").split())


def main() -> int:
    """Run the trial and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose", description=__doc__)
    parser.add_argument(
        "--keep-images", action="store_true", help="leave the images for a next run"
    )
    chosen = parser.parse_args()

    table = Table("step", "seconds", "seen")
    before, dangling = standins.images(), _dangling()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mf-compose-") as folder:
        trial = Trial(Path(folder))
        try:
            passed = run_steps(trial, table)
        finally:
            clean_up(trial, before, dangling, chosen.keep_images)
    table.add_row("all", f"{time.monotonic() - started:.1f}", "passed" if passed else "FAILED")
    Console(width=140).print(table)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
