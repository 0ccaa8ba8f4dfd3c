"""`make bench`: ours against the peers; see benchmarks/README.md.

(nothing)   ours and EASE on MovieLens 100K, one seed: minutes
ml100k      ours and all peers on MovieLens 100K, three seeds
scale       RMSE over seconds on 10 and 20 million synthetic ratings, ours and the peers
linear      seconds per sweep and rating on 1, 5 and 20 million
plot        pictures of what ml100k and scale have measured
generate    write the synthetic sets
install     make the peers' environments
"""

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks.environments import ENVIRONMENTS, PeerUnavailableError, cache_folder, python_of
from benchmarks.generate import SETS, write_sets
from benchmarks.ml100k import FOLDS, QUICK, run_ml100k
from benchmarks.results import RESULTS
from benchmarks.scale import run_linear, run_scale


def main() -> None:
    """Run the subcommand."""
    options = _options().parse_args(
        sys.argv[1:] if _named(sys.argv[1:]) else ["quick", *sys.argv[1:]]
    )
    overrides = dict(pair.split("=", 1) for pair in getattr(options, "set", []))
    only = set(options.only.split(",")) if getattr(options, "only", None) else None
    if options.command == "quick":
        run_ml100k(
            only or QUICK, options.folds, options.seeds, overrides, options.run, options.name
        )
    elif options.command == "ml100k":
        run_ml100k(only, options.folds, options.seeds, overrides, options.run, options.name)
    elif options.command == "scale":
        run_scale(options.sizes, only, overrides, options.run, options.name)
    elif options.command == "linear":
        run_linear(overrides, options.name)
    elif options.command == "plot":
        plot(options.names)
    elif options.command == "generate":
        write_sets(cache_folder() / "data", options.sizes)
    else:
        install()


def _named(arguments: list[str]) -> bool:
    return bool(arguments) and (
        not arguments[0].startswith("-") or arguments[0] in ("-h", "--help")
    )


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command, seeds in (("quick", 1), ("ml100k", 3)):
        ml100k = commands.add_parser(command)
        _common(ml100k, command)
        ml100k.add_argument("--folds", type=int, nargs="+", default=list(FOLDS), choices=FOLDS)
        ml100k.add_argument("--seeds", type=int, default=seeds)
    scale = commands.add_parser("scale")
    _common(scale, "scale")
    scale.add_argument("--sizes", nargs="+", default=["10m", "20m"], choices=["200k", "10m", "20m"])
    linear = commands.add_parser("linear")
    _common(linear, "linear", partial=False)
    plots = commands.add_parser("plot")
    plots.add_argument(
        "names", nargs="*", default=["ml100k", "scale"], help="of the files of results"
    )
    generate = commands.add_parser("generate")
    generate.add_argument("--sizes", nargs="+", default=list(SETS), choices=list(SETS))
    commands.add_parser("install")
    return parser


def _common(parser: argparse.ArgumentParser, name: str, partial: bool = True) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="override a setting of ours",
    )
    parser.add_argument("--name", default=name, help="name of the files of results")
    if partial:
        parser.add_argument(
            "--only",
            metavar="SYSTEM,...",
            help="measure these only; `bayes` also means bayes-side and so on",
        )
        parser.add_argument(
            "--run",
            metavar="ID",
            help="keep the others' figures: the run that the file of results holds",
        )


def plot(names: list[str]) -> None:
    """Draw the results `names`, in Matplotlib's own environment."""
    files = [str(RESULTS / f"{name}.json") for name in names if (RESULTS / f"{name}.json").exists()]
    if not files:
        raise SystemExit(f"there are no results {', '.join(names)} in {RESULTS}; measure first")
    subprocess.run(
        [str(python_of("plot")), str(Path(__file__).parent / "plot.py"), *files], check=True
    )


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


if __name__ == "__main__":
    main()
