"""Registers the console from this folder, where no installed package does.

Airflow loads `plugins_folder` first and entry points second. It takes the first plugin of a name
and reports the second one as an import error. An installed `mf-retrain` names the console as an
entry point, so this file then registers nothing. The package beside it is in .airflowignore:
Airflow would load each of its modules as a plugin of its own.
"""

from importlib.metadata import entry_points

if "mf_console" not in entry_points(group="airflow.plugins").names:
    from mf_console.plugin import MatrixFactorizationConsole  # noqa: F401
