"""Files behind http and https, read with what Python ships (fsspec would need aiohttp).

The operator's addresses are opened as any program would. A trigger's are judged at every hop, by
the name of the host and by its addresses, and the connection goes to the very address that was
judged: no second look-up, no proxy.
"""

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mf_core.errors import ConfigError, InputError
from mf_core.redaction import redacted
from mf_core.sources.reach import Permit

SCHEMES = ("http", "https")
_GONE_STATUSES = (404, 410)

Dial = Callable[[str, str, int, float], socket.socket]
"""Connects to (scheme, host, port) with a timeout in seconds."""


@dataclass(frozen=True)
class WebFile:
    """A file behind http or https.

    Attributes:
        uri: its address.
        permit: what it is judged by.
        timeout: the longest silence, in seconds.
    """

    uri: str
    permit: Permit
    timeout: float

    @property
    def name(self) -> str:
        """Return the file's name, without the address and the query."""
        path = unquote(urlsplit(self.uri).path)
        return PurePosixPath(path).name

    def is_dir(self) -> bool:
        """Return False: the web has no folders that could be listed."""
        return False

    def open(self, _: str) -> "WebReader":
        """Open the file for reading.

        Raises:
            InputError: the address has no host.
            ConfigError: the permit does not reach it, or a host that it sends on to.
            FileNotFoundError: the server has no such file.
            OSError: the server did not answer.
        """
        if not urlsplit(self.uri).hostname:
            raise InputError(f"{redacted(self.uri)}: expected http(s)://host/path. Correct it.")
        self.permit.judge(self.uri)
        try:
            response = self._opener().open(self.uri, timeout=self.timeout)
            return WebReader(response, self.timeout)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _GONE_STATUSES:
                raise FileNotFoundError(self.uri) from None
            raise ConnectionError(f"the server answered {error.code}") from None

    def _opener(self) -> urllib.request.OpenerDirector:
        if self.permit.rules is None:
            return urllib.request.build_opener()
        opener = urllib.request.OpenerDirector()
        dial = partial(_dial, self.permit)
        for handler in (
            _HttpHandler(dial),
            _HttpsHandler(dial),
            _RedirectHandler(self.permit),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        return opener


class WebReader:
    """An open answer of a server.

    It is read by what is there, so that a server that sends a byte now and then is noticed.
    """

    def __init__(self, response: Any, timeout: float) -> None:
        self._response = response
        self._timeout = timeout
        # None: the server has not said how much comes.
        self._expected: int | None = response.length
        self._received = 0

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end.

        Raises:
            ConnectionError: the connection ended early.
            TimeoutError: so few bytes took longer than the timeout.
        """
        deadline = time.monotonic() + self._timeout
        pieces: list[bytes] = []
        missing = size
        while missing and self._received != self._expected:
            piece = self._response.read1(missing)
            if not piece:
                self._refuse_early_end()
                break
            pieces.append(piece)
            missing -= len(piece)
            self._received += len(piece)
            if missing and time.monotonic() > deadline:
                raise TimeoutError(f"almost nothing came for {self._timeout:g} s")
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()

    def _refuse_early_end(self) -> None:
        # http.client takes a connection that breaks off for the end of the file.
        if self._expected is not None and self._received < self._expected:
            rest = self._expected - self._received
            raise ConnectionError(f"the connection ended {rest:,} bytes early")


def _dial(permit: Permit, scheme: str, host: str, port: int, timeout: float) -> socket.socket:
    """Connect to a host at one of the addresses that were judged."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    permit.judge_host(scheme, host, port, [str(info[4][0]) for info in found])

    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        # What getaddrinfo gave is numeric, so that nothing is looked up again.
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(timeout)
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


class _HttpConnection(http.client.HTTPConnection):
    """A connection that `dial` makes."""

    def __init__(self, host: str, *, dial: Dial, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._dial = dial
        self._seconds = timeout

    def connect(self) -> None:
        """Connect."""
        self.sock = self._dial("http", self.host, self.port, self._seconds)


class _HttpsConnection(http.client.HTTPSConnection):
    """A connection that `dial` makes, encrypted; the certificate must name the host."""

    def __init__(self, host: str, *, dial: Dial, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._dial = dial
        self._seconds = timeout

    def connect(self) -> None:
        """Connect."""
        plain = self._dial("https", self.host, self.port, self._seconds)
        trust = ssl.create_default_context()
        self.sock = trust.wrap_socket(plain, server_hostname=self.host)


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self._dial = dial

    def http_open(self, req: urllib.request.Request) -> Any:
        """Open an address of http."""
        connection: Any = partial(_HttpConnection, dial=self._dial)
        return self.do_open(connection, req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self._dial = dial

    def https_open(self, req: urllib.request.Request) -> Any:
        """Open an address of https."""
        connection: Any = partial(_HttpsConnection, dial=self._dial)
        return self.do_open(connection, req)


class _RedirectHandler(urllib.request.HTTPRedirectHandler):
    """Goes where a server sends on to, if the permit reaches there."""

    def __init__(self, permit: Permit) -> None:
        self._permit = permit

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, *arguments: Any
    ) -> urllib.request.Request | None:
        """Return the request for the new address, which comes last."""
        try:
            self._permit.judge_redirect(arguments[-1])
        except ConfigError:
            fp.close()
            raise
        return super().redirect_request(req, fp, *arguments)
