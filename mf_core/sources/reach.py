"""What a run's source may reach, judged before any work and again where something is opened.

Who runs `mf` and who writes the settings file are the operator, who may name anything. A person who
may only trigger the DAG may name what `[trigger]` of the settings file lists, and nothing without
an entry there. The sources of the settings file itself are the operator's, whoever starts the run.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from mf_core.config import SOURCE_URIS, Config, SourceConfig, uris_in
from mf_core.deployment import EVERY_PUBLIC_HOST, Deployment, Limits, TriggerRules
from mf_core.errors import ConfigError
from mf_core.redaction import redacted

DEMO_URI = "ml-100k"
SQL_URI = "sql"
_QUERY_SETTINGS = ("uri", "query", "database_url_env", "connection")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_WEB_PORTS = {"http": 80, "https": 443}
LOCAL_SCHEMES = ("file", "local")
CONNECTED_SCHEMES = ("s3", "s3a", "gs", "gcs")
"""Those whose credentials may come from an Airflow connection."""

# Two colons chain URIs: a library opens the last part, and the parts before it in what it finds.
_CHAIN = re.compile(r":{2}")
# A bucket or a host, and nothing that a library could take for a user, a port or an option.
_STORE_URI = re.compile(r"([a-z][a-z0-9+.-]*)://([A-Za-z0-9._-]+)((/[^?#\\\s]*)?)")

FindConnection = Callable[[str], str | None]
"""Gives the URI of an Airflow connection by its id, None if there is none."""


@dataclass(frozen=True)
class Permit:
    """What may be opened for one setting of the section `source`.

    Attributes:
        setting: its dotted name, for messages.
        rules: what it is judged by; None: the operator's, who may name anything.
        connection: the Airflow connection whose credentials an object store is read with; "": what
            its client finds by itself.
        find_connection: looks up Airflow's connections; None outside Airflow.
    """

    setting: str
    rules: TriggerRules | None = None
    connection: str = ""
    find_connection: FindConnection | None = None

    def judge(self, uri: str) -> None:
        """Judge a path or URI before anything is opened.

        Raises:
            ConfigError: it lies outside what the trigger may reach.
        """
        if self.rules is None:
            return
        scheme = scheme_of(uri)
        if scheme in _WEB_PORTS:
            self._judge_web(uri)
        elif scheme in ("", *LOCAL_SCHEMES) and not is_chained(uri):
            self.judge_path(local_path(uri))
        else:
            self.judge_store(uri)

    def judge_path(self, path: Path) -> None:
        """Judge a local path with its links and `..` followed. Raises ConfigError."""
        if self.rules is None:
            return
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            self._refuse(str(path), "it can't be followed")
        self.judge_real_path(real, shown=path)

    def judge_real_path(self, real: str, shown: Path) -> None:
        """Judge where a file really lies; `shown` is what people call it. Raises ConfigError."""
        if self.rules is None:
            return
        roots = [os.path.realpath(os.path.expanduser(root)) for root in self.rules.roots]
        if not any(Path(real).is_relative_to(root) for root in roots):
            # The same words whether something is there or not: nobody may find out by asking.
            self._refuse(str(shown), "it lies in none of the folders of trigger.roots")

    def judge_scheme(self, scheme: str, uri: str) -> None:
        """Judge the scheme of a URI, or of one that a server sends on to. Raises ConfigError."""
        if self.rules is not None and scheme not in self.rules.schemes:
            self._refuse(uri, f"{scheme!r:.40} is none of trigger.schemes")

    def judge_host(self, scheme: str, host: str, port: int, addresses: Sequence[str]) -> None:
        """Judge a host by its name, and an unlisted one by all of its addresses.

        Raises:
            ConfigError: it is not listed, and is not a public host where all of those may be named.
        """
        usual_port = _WEB_PORTS[scheme]
        if self.rules is None or self._is_listed(host, port, usual_port):
            return

        # A name without an address is nowhere, and so not public either.
        everywhere_public = bool(addresses) and all(map(is_public, addresses))
        may_be_any = EVERY_PUBLIC_HOST in self.rules.hosts
        if may_be_any and everywhere_public and port == usual_port:
            return
        where = f"{scheme}://{host}:{port}"
        self._refuse(where, "the host is none of trigger.hosts, and not a public one of `*`")

    def judge_redirect(self, uri: str) -> None:
        """Judge an address that a web server sends on to. Raises ConfigError."""
        if scheme_of(uri) not in _WEB_PORTS:
            self._refuse(uri, "a server sends on to it, and it is not of the web")
        self.judge(uri)

    def _judge_web(self, uri: str) -> None:
        """Judge the name of a web host; its addresses are judged where they are connected to."""
        try:
            parts = urlsplit(uri)
            port = parts.port or _WEB_PORTS[parts.scheme]
        except ValueError:
            self._refuse(uri, "it is no URI")
        self.judge_scheme(parts.scheme, uri)
        assert self.rules is not None
        listed = self._is_listed(parts.hostname or "", port, _WEB_PORTS[parts.scheme])
        if not listed and EVERY_PUBLIC_HOST not in self.rules.hosts:
            self._refuse(uri, "its host is none of trigger.hosts")

    def judge_store(self, uri: str) -> None:
        """Judge the URI of an object store or of another server that a library reads.

        Raises:
            ConfigError: the trigger may not name it.
        """
        if self.rules is None:
            return
        match = _STORE_URI.fullmatch(uri)
        if match is None or is_chained(uri) or ".." in match[3].split("/"):
            self._refuse(uri, "only scheme://host/path will do, no chained URI")
        self.judge_scheme(match[1], uri)
        # A library looks its host up by itself, so only a host that is listed by name will do.
        if match[2].lower() not in map(str.lower, self.rules.hosts):
            self._refuse(uri, "its host or bucket is none of trigger.hosts")
        if self.connection and self.connection not in self.rules.connections:
            self._refuse(uri, "source.connection is none of trigger.connections")

    def _is_listed(self, host: str, port: int, usual_port: int) -> bool:
        assert self.rules is not None
        bare = host.lower().strip("[]").removesuffix(".")
        names = {f"{bare}:{port}", f"[{bare}]:{port}"}
        if port == usual_port:
            names |= {bare, f"[{bare}]"}
        return not names.isdisjoint(listed.lower() for listed in self.rules.hosts)

    def _refuse(self, what: str, why: str) -> NoReturn:
        raise ConfigError(
            f"{self.setting}: a trigger may not reach {redacted(what)!r:.200}: {why}. Choose one "
            "of the operator's sources with source.name, or ask the operator to describe it in "
            "the settings file (MF_CONFIG) as [sources.NAME], or to widen [trigger] there."
        )


@dataclass(frozen=True)
class Reach:
    """What the sources of a run may reach, and how much of them is read.

    Attributes:
        deployment: what the operator says.
        by_trigger: the settings come from a person who may only trigger.
        find_connection: looks up Airflow's connections; None outside Airflow.
    """

    deployment: Deployment = field(default_factory=Deployment)
    by_trigger: bool = False
    find_connection: FindConnection | None = None

    @property
    def limits(self) -> Limits:
        """How much is read."""
        return self.deployment.limits

    def permit(self, source: SourceConfig, setting: str) -> Permit:
        """Return the permit of one of the settings that name a place (`SOURCE_URIS`)."""
        own = self.deployment.operators_own(source) if self.by_trigger else source
        uri = getattr(source, setting)
        # Beside a query, the connection is that of its database.
        connection = "" if source.uri == SQL_URI else source.connection
        is_own = uri == getattr(own, setting)
        # Another connection is another one who asks, or another server that is asked.
        connected = any(scheme_of(one) in CONNECTED_SCHEMES for one in uris_in(uri))
        if connection and connected:
            is_own = is_own and connection == own.connection
        return Permit(
            f"source.{setting}",
            rules=None if is_own else self.deployment.trigger,
            connection=connection,
            find_connection=self.find_connection,
        )

    def judge(self, config: Config) -> None:
        """Judge all places that a run's source names, without opening any.

        Raises:
            ConfigError: one of them is beyond what the trigger may reach. The message names the
                setting and says what to do.
        """
        source = config.source
        if source.uri == SQL_URI:
            self.judge_query(source)
        for setting in SOURCE_URIS:
            uri = getattr(source, setting)
            if not uri or (setting == "uri" and uri in (SQL_URI, DEMO_URI)):
                continue
            permit = self.permit(source, setting)
            for one in uris_in(uri):
                permit.judge(one)

    def judge_query(self, source: SourceConfig) -> bool:
        """Judge the query and the database that it runs on; say whether they are the operator's.

        Raises:
            ConfigError: neither are they, nor is the connection one of `trigger.connections`.
        """
        own = self.deployment.operators_own(source) if self.by_trigger else source
        if all(getattr(source, name) == getattr(own, name) for name in _QUERY_SETTINGS):
            return True

        if source.database_url_env != own.database_url_env:
            _refuse_query("source.database_url_env", "can't be set by a trigger")
        if not source.connection:
            _refuse_query("source.query", "of a trigger needs source.connection")
        if source.connection not in self.deployment.trigger.connections:
            _refuse_query("source.connection", "is none of trigger.connections")
        return False


def _refuse_query(setting: str, why: str) -> NoReturn:
    raise ConfigError(
        f"{setting} {why}. Choose one of the operator's sources with source.name, or a connection "
        "that the operator has listed in the settings file (MF_CONFIG) as trigger.connections."
    )


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI in small letters, "" for a path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_chained(uri: str) -> bool:
    """Say whether a URI is a chain, such as `simplecache::s3://bucket/file`."""
    return _CHAIN.search(uri) is not None


def last_of_chain(uri: str) -> str:
    """Return the last part of a chained URI, which is what is opened first."""
    return _CHAIN.split(uri)[-1]


def local_path(uri: str) -> Path:
    """Return the path that a local URI or path means: nothing in it is decoded."""
    path = uri
    if scheme_of(uri) in LOCAL_SCHEMES:
        path = uri.partition(":")[2]
        # As fsspec has it: file:///a and file:/a are the same.
        path = path.removeprefix("//")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        # There is no such user, and so no such file.
        return Path(path)


def is_public(address: str) -> bool:
    """Say whether an IP address is one of the public internet.

    Private, loopback, link-local, multicast, unspecified and reserved ones are not; nor is one of
    IPv6 that leads to such a one of IPv4.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    # Addresses that IPv6 reserves, such as those that map one of IPv4, were refused above.
    inner = ip.sixtofour
    return not ip.is_site_local and (inner is None or is_public(str(inner)))
