"""`mf backtest`: train and evaluate on two files, without a database."""

import click

from mf_core.cli.options import Reporter, json_option, scale_option, settings_options, show
from mf_core.config import Config, Head, make_config


@click.command()
@click.option("--train", "train_file", required=True, help="File or URI of the training ratings.")
@click.option("--test", "test_file", required=True, help="File or URI of the test ratings.")
@click.option("--users", "users_file", default="", help="File of users and their attributes.")
@click.option(
    "--items",
    "items_file",
    default="",
    help="File of items, with titles and attributes; all of them belong to the catalogue.",
)
@scale_option
@click.option(
    "--head",
    type=click.Choice(["rating", "ranking"]),
    help="Fit this head only, and order the lists by it alone; both by default.",
)
@json_option
@settings_options
def backtest(
    config: Config,
    train_file: str,
    test_file: str,
    users_file: str,
    items_file: str,
    head: Head | None,
    as_json: bool,
) -> None:
    """Fit on --train, measure on --test, and print every metric."""
    from mf_core.backtest import backtest as run

    overrides = {
        "source.uri": train_file,
        "source.test_uri": test_file,
        "source.users_uri": users_file,
        "source.items_uri": items_file,
    }
    of_files = make_config(overrides, config)
    reporter = Reporter()
    try:
        report = run(of_files, head, reporter.log)
    finally:
        reporter.close()

    figures = report.as_dict()
    # A nested table can't be read as lines of names and values.
    if not as_json:
        figures.pop("slices")
    show(figures, as_json)


COMMANDS = (backtest,)
