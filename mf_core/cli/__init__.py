"""The `mf` command: the steps of a run without Airflow, and everything around a published version.

Results go to stdout, progress to stderr. Exit codes: 0 done, 2 usage, 3 refused input, 4 failed
data check, 5 refused by the gate, 6 lost a promotion race, 7 lists older than `mf status --max-age`
allows, 10 database, 11 artifact store, 12 training failed, 13 temporary folder full, 14
more memory or disk is needed than there is, 130 interrupted.
"""

import sys

import click

from mf_core import __version__
from mf_core.cli import (
    admin,
    backtest,
    backup,
    capacity,
    prune,
    readers,
    status,
    steps,
    train_worker,
    tune,
)
from mf_core.cli.options import catalogue_option
from mf_core.errors import MFError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mf")
@catalogue_option(envvar="MF_CATALOGUE")
def cli() -> None:
    """Matrix-factorization retrain: ingest, split, train, evaluate, gate, recommend, publish.

    Works on the warehouse named by MF_DATABASE_URL. Without it, starts the embedded Postgres under
    MF_HOME (./var).

    With --catalogue NAME the variables MF_DATABASE_URL, MF_CONFIG and those of the roles end with
    that name: of films, MF_DATABASE_URL_FILMS.

    Exit codes: 0 done, 2 usage, 3 refused input, 4 failed data check, 5 refused by the gate, 6 lost
    a promotion race, 7 lists older than `mf status --max-age` allows, 10 database, 11 artifact
    store, 12 training failed, 13 temporary folder full, 14 more memory or disk is needed than there
    is.
    """


MODULES = (
    steps,
    status,
    readers,
    admin,
    backup,
    prune,
    backtest,
    tune,
    capacity,
    train_worker,
)
for module in MODULES:
    for command in module.COMMANDS:
        cli.add_command(command)


def main() -> None:
    """Run `mf`, and turn the project's errors into one line and an exit code."""
    try:
        _require_text(sys.argv[1:])
        sys.exit(cli(standalone_mode=False) or 0)
    except MFError as error:
        click.echo(f"mf: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("mf: interrupted", err=True)
        sys.exit(130)


def _require_text(arguments: list[str]) -> None:
    """Refuse bytes that are no UTF-8: no name, id or reason with them can be put on record."""
    for argument in arguments:
        try:
            argument.encode("utf-8")
        except UnicodeEncodeError:
            raise click.UsageError(
                f"expected arguments in UTF-8, got {argument!r}; write it in UTF-8."
            ) from None
