"""The demo's report as text."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.report import LIST_SQL, DemoReport


def print_report(console: Console, report: DemoReport) -> None:
    """Print the report."""
    console.rule("[bold]Report")
    console.print(_facts(report))
    style = "green" if report.verdict == "approved" else "red"
    console.print(f"\n[bold]The gate's verdict:[/] [{style}]{report.verdict}[/]")
    for reason in report.reasons:
        console.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)
    _print_list(console, report)
    console.print(
        "\n[bold]Seconds per task:[/] "
        + ", ".join(f"{task} {seconds:.1f}" for task, seconds in report.seconds.items())
    )


def _facts(report: DemoReport) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _fact_rows(report):
        table.add_row(f"[bold]{name}", escape(value))
    return table


def _fact_rows(report: DemoReport) -> Iterator[tuple[str, str]]:
    done = (
        "already ingested before"
        if report.already_ingested
        else f"{report.rows_rejected:,} rejected"
    )
    yield (
        "Rows in",
        f"{report.rows_read:,} from {report.source_uri} ({done}); {report.total_ratings:,} ratings in the warehouse",
    )
    yield (
        "Split",
        f"{report.split}: {report.n_train:,} train, {report.n_test:,} test; {report.n_users:,} users, {report.n_items:,} items",
    )
    yield (
        "Test RMSE",
        _beside(
            report.test_rmse,
            {
                "biases only": report.baseline_rmse,
                "global mean": report.global_mean_rmse,
                "champion": report.champion_rmse,
            },
        ),
    )
    yield "Test MAE", _number(report.test_mae)
    yield (
        "Average error",
        f"{_number(report.test_average_error)} (the post's test cost: sum of squares / 2n)",
    )
    yield (
        f"NDCG@{report.cutoff}",
        _beside(
            report.ndcg_at_10,
            {"popularity": report.popularity_ndcg_at_10, "champion": report.champion_ndcg_at_10},
        ),
    )
    if report.known_rating is not None:
        known = report.known_rating
        told = f"user {known.user_id} gave {known.title or known.item_id} {known.rating:g}"
        yield (
            "A known rating",
            f"{told}; the model, which has not seen it, predicts {known.predicted:.2f}",
        )
    if report.published:
        yield (
            "Published",
            f"version {report.model_version}: {report.rows_published:,} rows for {report.users:,} users",
        )
    else:
        yield (
            "Published",
            f"nothing; version {report.model_version} is not live and readers see what they saw before",
        )


def _print_list(console: Console, report: DemoReport) -> None:
    if report.shown_user is None:
        return
    console.print(f"\n[bold]Recommended to user {escape(report.shown_user)}:[/]")
    for item in report.shown_list:
        console.print(
            f"  {item.rank:>2}. {escape(item.title or item.item_id)}  ({item.predicted_rating:.2f})",
            highlight=False,
        )
    console.print("\n[bold]The same in SQL[/] (`make psql`):")
    console.print(
        LIST_SQL.format(user_id=report.shown_user.replace("'", "''")), highlight=False, markup=False
    )


def _beside(value: float | None, others: dict[str, float | None]) -> str:
    known = [f"{name} {_number(other)}" for name, other in others.items() if other is not None]
    return f"{_number(value)} ({', '.join(known)})" if known else _number(value)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"
