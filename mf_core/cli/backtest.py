"""`mf backtest`: train and evaluate on two files, without a database."""

import click

from mf_core.cli.options import Reporter, json_option, settings_options, show
from mf_core.config import Config, make_config
from mf_core.errors import ConfigError


@click.command()
@click.option("--train", "train_file", required=True, help="File or URI of the training ratings.")
@click.option("--test", "test_file", required=True, help="File or URI of the test ratings.")
@click.option("--users", "users_file", default="", help="File of users and their attributes.")
@click.option(
    "--items",
    "items_file",
    default="",
    help="File of items, titles and attributes; all of them are the catalogue.",
)
@click.option("--scale", default=None, metavar="LOW,HIGH", help="Rating scale, 1,5 if absent.")
@click.option(
    "--head", type=click.Choice(["rating", "ranking"]), help="Fit this head only; both if absent."
)
@json_option
@settings_options
def backtest(
    config: Config,
    train_file: str,
    test_file: str,
    users_file: str,
    items_file: str,
    scale: str | None,
    head: str | None,
    as_json: bool,
) -> None:
    """Fit on --train, measure on --test, and print every metric."""
    from mf_core.tune.backtest import backtest as run

    overrides = {
        "source.uri": train_file,
        "source.test_uri": test_file,
        "source.users_uri": users_file,
        "source.items_uri": items_file,
    }
    reporter = Reporter()
    try:
        report = run(make_config({**overrides, **_scale(scale)}, config), head, reporter.log)  # type: ignore[arg-type]
    finally:
        reporter.close()
    figures = report.as_dict()
    if not as_json:
        figures.pop("slices")
    show(figures, as_json)


def _scale(text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    low, comma, high = text.partition(",")
    if not comma:
        raise ConfigError(f"--scale expects LOW,HIGH such as 0.5,5; got {text!r}.")
    return {"data.scale_low": low, "data.scale_high": high}


COMMANDS = (backtest,)
