"""`mf backup` and `mf restore`: the warehouse, the artifacts and Airflow's metadata together."""

from pathlib import Path

import click

from mf_core.cli.options import open_workplace, the_catalogue

_METADATA = click.option(
    "--metadata-url",
    envvar="AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    help="URL of Airflow's metadata database (AIRFLOW__DATABASE__SQL_ALCHEMY_CONN); "
    "without it they are left out.",
)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_METADATA
def backup(folder: Path, metadata_url: str | None) -> None:
    """Save the warehouse, the artifacts and Airflow's metadata into the new FOLDER.

    Nights may run meanwhile. The folder holds ratings and passwords. It is a backup once it has a
    file backup.json.
    """
    from mf_core.backup import save

    with open_workplace() as place:
        made = save(place.engine, place.artifact_root, folder, metadata_url, place.log)
    without = "" if made.has_metadata else ", without Airflow's metadata"
    click.echo(f"the backup in {folder} is finished: {len(made.files):,} files{without}")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@_METADATA
def restore(folder: Path, metadata_url: str | None) -> None:
    """Bring the backup in FOLDER back, into an empty warehouse and an empty artifact store.

    They may be others than those that it was taken of. Run `mf db migrate` afterwards.
    """
    from mf_core.backup import restore as bring_back

    with open_workplace() as place:
        made = bring_back(place.engine, place.artifact_root, folder, metadata_url, place.log)
    command = the_catalogue().command("db migrate")
    click.echo(f"restored as of {made.made_at}; now run `{command}`")


COMMANDS = (backup, restore)
