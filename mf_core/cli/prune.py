"""`mf prune`: what nothing needs any more."""

import click

from mf_core.cli.options import json_option, open_workplace, settings_options, show
from mf_core.config import Config


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@json_option
@settings_options
def prune(config: Config, dry_run: bool, as_json: bool) -> None:
    """Remove artifacts, old records and rejected rows that nothing needs any more.

    Each publication does so by itself. What a version needs that readers see, or that a rollback
    may let them see, stays; so does what a run may go on with.
    """
    import dataclasses

    from mf_core import pipeline

    with open_workplace() as place:
        removed = pipeline.prune(config, place, dry_run=dry_run)
        if removed or as_json:
            show([dataclasses.asdict(one) for one in removed], as_json)
        else:
            click.echo("nothing to remove", err=True)


COMMANDS = (prune,)
