"""Credentials for an object store out of an Airflow connection.

An extra of the connection that is not known here is refused rather than left out: it may say who
asks, or which server is asked.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mf_core.errors import ConfigError
from mf_core.redaction import redacted
from mf_core.sources.reach import (
    CONNECTED_SCHEMES,
    Permit,
    is_chained,
    last_of_chain,
    scheme_of,
)

Options = dict[str, Any]
# Where Airflow puts extras that are more than texts.
_EXTRA = "__extra__"


def credentials(uri: str, permit: Permit) -> Options:
    """Return the options of fsspec's file system for a URI; none without a connection.

    Raises:
        ConfigError: the connection is missing, of another type, or holds what is not known here.
    """
    scheme = scheme_of(last_of_chain(uri))
    if not permit.connection or scheme not in CONNECTED_SCHEMES:
        return {}
    if is_chained(uri):
        raise ConfigError(
            f"source.connection can't be used for the chained URI {redacted(uri)}; name the file "
            "in the store itself."
        )
    if permit.find_connection is None:
        raise ConfigError(
            "source.connection names an Airflow connection, and this is not Airflow; leave it "
            "empty, and give the store's client its credentials by its own environment variables."
        )
    kind, options_of = _KINDS[scheme]
    found = permit.find_connection(permit.connection)
    is_there = found is not None and urlsplit(found).scheme == kind.replace("_", "-")
    if found is None or not is_there:
        what = "there is none" if found is None else "it is of another type"
        raise ConfigError(
            f"source.connection = {permit.connection!r:.100}: expected an Airflow connection of "
            f"type {kind} for {scheme}://, but {what}. Make it, or correct the setting."
        )
    login, password, extra = _parts(found, permit.connection)
    try:
        options = options_of(login, password, extra)
    except ValueError:
        raise ConfigError(
            f"the Airflow connection {permit.connection!r:.100} has a keyfile_dict that is not the "
            "JSON of a key. Correct it."
        ) from None
    if extra:
        raise ConfigError(
            f"the Airflow connection {permit.connection!r:.100} has an extra that is not known "
            f"here: {', '.join(sorted(extra))}. Known are: {_KNOWN[kind]}. Take it out, or leave "
            "source.connection empty and set up the store's client on the workers."
        )
    return options


def _parts(uri: str, connection_id: str) -> tuple[str, str, Options]:
    """Return login, password and extras of a connection in Airflow's form of a URI."""
    try:
        parts = urlsplit(uri)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        extra = json.loads(query[_EXTRA]) if _EXTRA in query else query
        if not isinstance(extra, dict):
            raise ValueError
    except ValueError:
        raise ConfigError(
            f"the Airflow connection {connection_id!r:.100} can't be read; its extra is a JSON "
            "object."
        ) from None
    return unquote(parts.username or ""), unquote(parts.password or ""), dict(extra)


def _of_aws(login: str, password: str, extra: Options) -> Options:
    """Return the options of s3fs; what is taken out of `extra` is known."""
    endpoint = extra.pop("endpoint_url", None)
    # As in Airflow, what a connection says of S3 alone comes before what it says of all services.
    endpoint = _take_endpoint_of_s3(extra) or endpoint
    region = extra.pop("region_name", None)
    key = extra.pop("aws_access_key_id", None)
    secret = extra.pop("aws_secret_access_key", None)
    wanted = {
        "key": login or key,
        "secret": password or secret,
        "token": extra.pop("aws_session_token", None),
        "profile": extra.pop("profile_name", None),
        "endpoint_url": endpoint,
        "client_kwargs": {"region_name": region} if region else None,
    }
    return {name: value for name, value in wanted.items() if value}


def _take_endpoint_of_s3(extra: Options) -> Any:
    """Take `service_config` out of the extras if it says where S3 is and nothing else.

    What else it says stays, and is refused with it.
    """
    match extra.get("service_config"):
        case {"s3": {"endpoint_url": endpoint, **more}, **others} if not more and not others:
            del extra["service_config"]
            return endpoint
    return None


def _of_google(_login: str, _password: str, extra: Options) -> Options:
    """Return the options of gcsfs; what is taken out of `extra` is known."""
    # As older releases of the provider have written them.
    for name in list(extra):
        extra[name.removeprefix("extra__google_cloud_platform__")] = extra.pop(name)
    key = extra.pop("keyfile_dict", None)
    extra.pop("num_retries", None)
    extra.pop("scope", None)
    wanted = {
        "token": json.loads(key) if isinstance(key, str) and key else key,
        "project": extra.pop("project", None),
        "endpoint_url": extra.pop("endpoint_url", None),
    }
    path = extra.pop("key_path", None)
    wanted["token"] = wanted["token"] or path
    return {name: value for name, value in wanted.items() if value}


_KINDS: dict[str, tuple[str, Callable[[str, str, Options], Options]]] = {
    **dict.fromkeys(("s3", "s3a"), ("aws", _of_aws)),
    **dict.fromkeys(("gs", "gcs"), ("google_cloud_platform", _of_google)),
}
_KNOWN = {
    "aws": "login and password, aws_access_key_id, aws_secret_access_key, aws_session_token, "
    "profile_name, region_name, endpoint_url, service_config.s3.endpoint_url",
    "google_cloud_platform": "key_path, keyfile_dict, project, scope, num_retries, endpoint_url",
}
