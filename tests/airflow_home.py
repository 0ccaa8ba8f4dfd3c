"""A home folder for the Airflow that runs in pytest's own process."""

import atexit
import os
import shutil
import tempfile

_MADE_BY = "AIRFLOW_HOME_MADE_BY"


def use_own_airflow_home() -> None:
    """Name a new folder in AIRFLOW_HOME, unless one is named already; it goes with the process.

    A worker of pytest-xdist inherits that of its parent, which is none of its own.
    """
    if "AIRFLOW_HOME" in os.environ and os.environ.get(_MADE_BY) in (None, str(os.getpid())):
        return
    os.environ[_MADE_BY] = str(os.getpid())
    home = tempfile.mkdtemp(prefix="airflow-home-")
    os.environ["AIRFLOW_HOME"] = home
    atexit.register(_remove, home, os.getpid())


def _remove(home: str, owner: int) -> None:
    # A forked child that ends leaves the home to its parent.
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)
