"""A home folder for the Airflow that runs in pytest's own process."""

import atexit
import os
import shutil
import tempfile


def use_own_airflow_home() -> None:
    """Name a new folder in AIRFLOW_HOME, unless one is named already; it goes with the process."""
    if "AIRFLOW_HOME" in os.environ:
        return
    home = tempfile.mkdtemp(prefix="airflow-home-")
    os.environ["AIRFLOW_HOME"] = home
    atexit.register(_remove, home, os.getpid())


def _remove(home: str, owner: int) -> None:
    # A forked child that ends leaves the home to its parent.
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)
