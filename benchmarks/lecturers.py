"""73,000 ratings, 1 to 5, of 1,128 lecturers by 2,972 students of ETH Zurich: real, and no films.

The data frame InstEval of lme4 (Bates et al. 2015, GPL-2+). It is fetched as Debian's package
r-cran-lme4 and read without R; nothing of it lies in this repository. It has no times: the semester
is given, but not within it.
"""

import subprocess
from pathlib import Path

import numpy as np

from benchmarks.environments import PeerUnavailableError, clean_environment, python_of
from benchmarks.planted import Rated

_PACKAGE = "r-cran-lme4"


def read_lecturers(folder: Path) -> Rated:
    """Return the ratings, fetched into `folder` once; a pair that comes twice keeps its first row.

    Raises:
        PeerUnavailableError: the package cannot be had here.
    """
    table = folder / "insteval.csv"
    if not table.exists():
        _fetch(folder, table)
    user_id, item_id, value = np.loadtxt(table, delimiter=",", dtype=np.int64, unpack=True)
    _, user = np.unique(user_id, return_inverse=True)
    _, item = np.unique(item_id, return_inverse=True)

    _, first = np.unique(user * (item.max() + 1) + item, return_index=True)
    return Rated(
        user=user[first],
        item=item[first],
        value=value[first].astype(float),
        second=np.zeros(len(first), np.int64),
    )


def _fetch(folder: Path, table: Path) -> None:
    """Write the rows (student, lecturer, rating) to `table`. Raises PeerUnavailableError."""
    folder.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", _PACKAGE], folder)
    [package] = folder.glob(f"{_PACKAGE}_*.deb")
    _run(["dpkg-deb", "-x", package.name, "unpacked"], folder)

    script = Path(__file__).parent / "peers" / "read_insteval.py"
    data = folder / "unpacked/usr/lib/R/site-library/lme4/data"
    _run([str(python_of("rdata")), str(script), str(data), str(table)], folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(
            command, cwd=folder, env=clean_environment(), check=True, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise PeerUnavailableError(f"the set is fetched by Debian's tools: {error}") from error
    except subprocess.CalledProcessError as error:
        raise PeerUnavailableError(f"`{' '.join(command)}` said: {error.stderr}") from error
