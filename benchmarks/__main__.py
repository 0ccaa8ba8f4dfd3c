"""`make bench`: ours against the peers; see benchmarks/README.md.

(nothing)   ours, EASE, popularity and biases on one fold of MovieLens 100K: minutes
ml100k      ours and all peers on MovieLens 100K, three seeds
scale       RMSE over seconds on 10 and 20 million synthetic ratings, ours and the peers
night       every step of a night beside its floor, from 100,000 to 20 million ratings
linear      seconds per sweep and rating on 1, 5 and 20 million
plot        pictures of what ml100k and scale have measured
generate    write the synthetic sets
shapes      ours and peers with the same information on sets of many shapes
events      the same on events without ratings
pages       put what shapes and night have measured into README and the pages
sets        write the sets of other shapes as CSV, parted by every protocol
install     make the peers' environments
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.environments import ENVIRONMENTS, PeerUnavailableError, cache_folder, python_of
from benchmarks.generate import SETS, write_sets
from benchmarks.ml100k import FOLDS, run_ml100k
from benchmarks.night import run_night
from benchmarks.night.cases import CASES, SHAPES, SIZES
from benchmarks.night.pages import write_page
from benchmarks.request import Request
from benchmarks.results import RESULTS
from benchmarks.scale import run_linear, run_scale
from benchmarks.sets import DEFAULT, EVENT_SETS, EVERY, ML100K, write_set
from benchmarks.shape_pages import write_pages
from benchmarks.shape_runs import Extent, run_shapes

# What `make bench` alone measures.
_QUICK = "ours,ease,popularity,biases"


def main() -> None:
    """Run the subcommand."""
    arguments = sys.argv[1:]
    if not _names_command(arguments):
        arguments = ["quick", *arguments]
    options = _parser().parse_args(arguments)
    _COMMANDS[options.command](options)


def _quick(options: argparse.Namespace) -> None:
    options.only = options.only or _QUICK
    _shapes(options)


def _ml100k(options: argparse.Namespace) -> None:
    run_ml100k(_request(options), options.folds, options.seeds)


def _shapes(options: argparse.Namespace) -> None:
    extent = Extent(options.sets, options.protocols, options.seeds, options.again)
    run_shapes(_request(options), extent)


def _night(options: argparse.Namespace) -> None:
    shapes = SHAPES if options.shapes == [] and "--shapes" in sys.argv else options.shapes
    names = [name for name in CASES if name in (*options.sizes, *shapes)]
    run_night(_request(options), names, alone=not options.no_steps_alone, again=options.again)


def _pages() -> None:
    write_pages(json.loads((RESULTS / "shapes.json").read_text()))
    write_page(json.loads((RESULTS / "night.json").read_text()))


def _sets(options: argparse.Namespace) -> None:
    for name in options.names:
        print(write_set(name), flush=True)


def _names_command(arguments: list[str]) -> bool:
    """Say whether the first of `arguments` is a command, or asks for the list of commands."""
    if not arguments:
        return False

    first = arguments[0]
    if first in ("-h", "--help"):
        return True
    return not first.startswith("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    quick = commands.add_parser("quick")
    _add_shapes_options(quick, "quick", sets=[ML100K], protocols=["u1"])
    _add_ml100k_options(commands.add_parser("ml100k"))

    scale = commands.add_parser("scale")
    _add_common_options(scale, "scale")
    _add_partial_options(scale)
    sizes = ["200k", "10m", "20m"]
    scale.add_argument("--sizes", nargs="+", default=["10m", "20m"], choices=sizes)

    _add_common_options(commands.add_parser("linear"), "linear")
    _add_night_options(commands.add_parser("night"))

    plots = commands.add_parser("plot")
    drawn = ["ml100k", "scale"]
    plots.add_argument("names", nargs="*", default=drawn, help="names of files of results")

    generate = commands.add_parser("generate")
    generate.add_argument("--sizes", nargs="+", default=list(SETS), choices=list(SETS))

    shapes = commands.add_parser("shapes")
    _add_shapes_options(shapes, "shapes", sets=list(DEFAULT), protocols=None)

    events = commands.add_parser("events")
    _add_shapes_options(events, "events", sets=list(EVENT_SETS), protocols=None)

    sets = commands.add_parser("sets")
    sets.add_argument("names", nargs="*", default=DEFAULT, metavar="SET", help=", ".join(EVERY))

    commands.add_parser("pages")
    commands.add_parser("install")
    return parser


def _add_shapes_options(
    parser: argparse.ArgumentParser, name: str, *, sets: list[str], protocols: list[str] | None
) -> None:
    _add_common_options(parser, name)
    _add_partial_options(parser)
    parser.add_argument("--sets", nargs="+", default=sets, choices=EVERY, metavar="SET")
    parser.add_argument("--protocols", nargs="+", default=protocols, help="such as random, last_10")
    parser.add_argument("--seeds", type=int, default=1, help="of ours")
    parser.add_argument("--again", action="store_true", help="also what the run has measured")


def _add_ml100k_options(parser: argparse.ArgumentParser) -> None:
    _add_common_options(parser, "ml100k")
    _add_partial_options(parser)
    parser.add_argument(
        "--folds",
        type=int,
        nargs="+",
        default=list(FOLDS),
        choices=FOLDS,
    )
    parser.add_argument("--seeds", type=int, default=3)


def _add_night_options(parser: argparse.ArgumentParser) -> None:
    _add_common_options(parser, "night")
    parser.add_argument("--sizes", nargs="*", default=list(SIZES[1:]), choices=SIZES)
    parser.add_argument(
        "--shapes",
        nargs="*",
        default=[],
        choices=SHAPES,
        help="sets of odd shapes besides; alone: all of them",
    )
    parser.add_argument(
        "--run", metavar="ID", help="go on with the run of that id in the file of results"
    )
    parser.add_argument("--again", action="store_true", help="also what that run has measured")
    parser.add_argument(
        "--no-steps-alone", action="store_true", help="without top-N and publishing by themselves"
    )


def _add_common_options(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a setting of ours",
    )
    parser.add_argument("--name", default=name, help="name of the files of results")


def _add_partial_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        metavar="SYSTEM,...",
        help="measure these only; `bayes` also means bayes-side and so on",
    )
    parser.add_argument(
        "--run",
        metavar="ID",
        help="keep the other systems' figures: the id of the run in the file of results",
    )


def _request(options: argparse.Namespace) -> Request:
    """Return what `options` ask for. `linear` has no --only and no --run."""
    overrides = dict(pair.split("=", 1) for pair in options.set)
    only = getattr(options, "only", None)
    return Request(
        name=options.name,
        overrides=overrides,
        only=frozenset(only.split(",")) if only else None,
        run=getattr(options, "run", None),
    )


def plot(names: list[str]) -> None:
    """Draw the results `names`, in Matplotlib's own environment.

    Raises:
        SystemExit: there are none yet.
    """
    paths = [RESULTS / f"{name}.json" for name in names]
    files = [str(path) for path in paths if path.exists()]
    if not files:
        raise SystemExit(f"there are no results {', '.join(names)} in {RESULTS}; measure first")

    python = python_of("plot")
    script = Path(__file__).parent / "plot.py"
    subprocess.run([str(python), str(script), *files], check=True)


def install() -> None:
    """Make every environment, and say which ones failed."""
    failed = 0
    for name in ENVIRONMENTS:
        try:
            python_of(name)
            print(f"{name}: ready")
        except PeerUnavailableError as error:
            failed += 1
            print(f"{name}: failed: {error}")
    raise SystemExit(1 if failed else 0)


_COMMANDS: dict[str, Callable[[argparse.Namespace], object]] = {
    "quick": _quick,
    "ml100k": _ml100k,
    "scale": lambda options: run_scale(_request(options), options.sizes),
    "linear": lambda options: run_linear(_request(options)),
    "night": _night,
    "shapes": _shapes,
    "events": _shapes,
    "sets": _sets,
    "pages": lambda options: _pages(),
    "plot": lambda options: plot(options.names),
    "generate": lambda options: write_sets(cache_folder() / "data", options.sizes),
    "install": lambda options: install(),
}

if __name__ == "__main__":
    main()
