"""What Airflow loads: the console's address and its place in the navigation.

Every component of Airflow loads plugins, and only the api-server serves one. So this module imports
nothing heavy, and the application is built at its first request.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/mf"

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LazyApp:
    """Builds the console at its first request."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass an ASGI call on."""
        from mf_console.app import build_app

        await build_app()(scope, receive, send)


def _base_path() -> str:
    """Return the path under which Airflow is served: "" unless `[api] base_url` has one."""
    base_url = conf.get("api", "base_url", fallback="")
    return urlsplit(base_url).path.rstrip("/")


class MatrixFactorizationConsole(AirflowPlugin):
    """Registers the console and its place in the navigation."""

    name = "mf_console"
    fastapi_apps: ClassVar = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Recommendations"}]
    external_views: ClassVar = [
        {
            "name": "Recommendations",
            "href": f"{_base_path()}{PREFIX}/",
            "url_route": "recommendations",
            "destination": "nav",
            "nav_top_level": True,
        }
    ]
