"""A stack whose Airflow database a release before this one has made."""

from demo.processes import wait_until
from tests.compose import standins
from tests.compose.nights import digest
from tests.compose.trial import DAG_ID, Trial, compose_command, expect
from tests.pages import commands, run

PAGE = "howto/upgrade.md"
HEADING = "A compose stack of release 0.2.0"
# What its compose file said.
OLD = ("POSTGRES_USER=airflow", "POSTGRES_PASSWORD=old", "POSTGRES_DB=airflow")
FOLDER = "/var/lib/postgresql"


def upgrade_an_older_stack(trial: Trial) -> str:
    """Start on an Airflow database of release 0.2.0: refused, until the page has been followed."""
    trial.make("compose-down")
    _make_old_metadata(trial)
    said = trial.make("compose-up", fails=True)
    expect(f"docs/{PAGE}" in said, "the page that helps is not named")
    expect("Traceback" not in said, "it ends in a traceback")

    for block in commands(PAGE, HEADING):
        text = block.replace("docker compose", " ".join(compose_command()))
        run(text, trial.clone, {**trial.environment, "PROJECT": trial.project})
    expect((trial.clone / "warehouse.dump").stat().st_size > 0, "no dump of the warehouse")
    expect(digest(trial) == trial.rows, "the lists have changed")
    expect(not trial.api().call("GET", f"/dags/{DAG_ID}")["is_paused"], "the nights are paused")
    return "refused, with the page; after its commands the same lists, and nights are unpaused"


def _make_old_metadata(trial: Trial) -> None:
    """Put a cluster with the superuser of release 0.2.0 into the volume of Airflow's database."""
    image, volume = "postgres:18", f"{trial.project}_metadata:{FOLDER}"
    clear = ("find", FOLDER, "-mindepth", "1", "-delete")
    at_volume = ("run", "--rm", "--volume", volume)
    standins.docker(*at_volume, "--entrypoint", clear[0], image, *clear[1:])

    name = f"{trial.project}-old-metadata"
    variables = [f"--env={variable}" for variable in OLD]
    standins.docker(*at_volume, "--detach", "--name", name, *variables, image)
    try:
        ask = ("exec", name, "pg_isready", "--username", "airflow", "--host", "127.0.0.1")
        ready = wait_until(lambda: "accepting" in standins.says(*ask), 60)
        expect(ready, "the older cluster does not start")
    finally:
        standins.docker("stop", "--time", "60", name)
