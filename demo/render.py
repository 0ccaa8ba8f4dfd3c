"""The demo's report as text."""

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from demo.report import LIST_SQL, DemoReport, KnownRating


def print_report(console: Console, report: DemoReport) -> None:
    """Print the report."""
    console.rule("[bold]Report")
    console.print(_facts(report))

    style = "green" if report.verdict == "approved" else "red"
    console.print(f"\n[bold]The gate's verdict:[/] [{style}]{report.verdict}[/]")
    for reason in report.reasons:
        console.print(f"  - {escape(reason)}", highlight=False, soft_wrap=True)

    _print_list(console, report)

    seconds = [f"{task} {seconds:.1f}" for task, seconds in report.seconds.items()]
    console.print(f"\n[bold]Seconds per task:[/] {', '.join(seconds)}")


def _facts(report: DemoReport) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in _fact_rows(report):
        table.add_row(f"[bold]{name}", escape(value))
    return table


def _fact_rows(report: DemoReport) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each fact, in the order of the pipeline."""
    yield "Rows in", _rows_in(report)
    yield "Split", _split(report)
    if report.kind == "ratings":
        yield "Test RMSE", _test_rmse(report)
        yield "Test MAE", _number(report.test_mae)
        yield "Average error", _average_error(report)
    yield f"NDCG@{report.cutoff}", _ndcg(report)
    if report.known_rating is not None:
        yield "A known rating", _prediction(report.known_rating)
    yield "Published", _published(report)


def _rows_in(report: DemoReport) -> str:
    rows = "ratings" if report.kind == "ratings" else "pairs of user and item"
    done = f"{report.rows_rejected:,} rejected"
    if report.already_ingested:
        done = "already ingested before"
    return (
        f"{report.rows_read:,} from {report.source_uri} ({done}); "
        f"{report.total_ratings:,} {rows} in the warehouse"
    )


def _split(report: DemoReport) -> str:
    return (
        f"{report.split}: {report.n_train:,} train, {report.n_test:,} test; "
        f"{report.n_users:,} users, {report.n_items:,} items"
    )


def _test_rmse(report: DemoReport) -> str:
    others = {
        "biases only": report.baseline_rmse,
        "global mean": report.global_mean_rmse,
        "champion": report.champion_rmse,
    }
    return _beside(report.test_rmse, others)


def _average_error(report: DemoReport) -> str:
    error = _number(report.test_average_error)
    return f"{error} (the post's test cost: sum of squares / 2n)"


def _ndcg(report: DemoReport) -> str:
    others = {
        "popularity": report.popularity_ndcg,
        "item-item": report.item_item_ndcg,
        "champion": report.champion_ndcg,
    }
    return _beside(report.ndcg, others)


def _prediction(known: KnownRating) -> str:
    item = known.title or known.item_id
    return (
        f"user {known.user_id} gave {item} {known.rating:g}; "
        f"the model, which has not seen it, predicts {known.predicted:.2f}"
    )


def _published(report: DemoReport) -> str:
    version = f"version {report.model_version}"
    if not report.published:
        return f"nothing; {version} is not live and readers see what they saw before"
    return f"{version}: {report.rows_published:,} rows for {report.users:,} users"


def _print_list(console: Console, report: DemoReport) -> None:
    """Print one user's list, and the query that gives the same."""
    if report.shown_user is None:
        return

    console.print(f"\n[bold]Recommended to user {escape(report.shown_user)}:[/]")
    for item in report.shown_list:
        title = escape(item.title or item.item_id)
        line = f"  {item.rank:>2}. {title}"
        if item.predicted_rating is not None:
            line += f"  ({item.predicted_rating:.2f})"
        console.print(line, highlight=False)

    console.print("\n[bold]The same in SQL[/] (`make psql`):")
    # The query is for copying, so it is a whole one: a quote in the id has to be doubled.
    user_id = report.shown_user.replace("'", "''")
    console.print(LIST_SQL.format(user_id=user_id), highlight=False, markup=False)


def _beside(value: float | None, others: dict[str, float | None]) -> str:
    """Return `value`, with those of `others` that were measured in brackets."""
    known = []
    for name, other in others.items():
        if other is not None:
            known.append(f"{name} {_number(other)}")

    if not known:
        return _number(value)
    return f"{_number(value)} ({', '.join(known)})"


def _number(value: float | None) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4f}"
