"""What a person who may only trigger can reach: closed by default, judged at every opening."""

import http.server
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from mf_core.config import Config, make_config
from mf_core.deployment import Deployment, Limits, TriggerRules
from mf_core.errors import ConfigError, InputError
from mf_core.sources.metadata import read_items
from mf_core.sources.reach import Reach, is_public
from mf_core.sources.source import open_source
from mf_core.sources.spool import SourceUnavailableError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CSV = "user_id,item_id,rating\n1,10,4\n1,11,3\n2,10,5\n"
SECRET = "not-for-those-who-trigger"


def triggered(own: Config | None = None, **rules: Any) -> Reach:
    """Return the reach of a run that somebody triggered who may only trigger."""
    deployment = Deployment(own or Config(), trigger=TriggerRules(**rules))
    return Reach(deployment, by_trigger=True)


def load(reach: Reach | None, **source: Any) -> int:
    """Read a source with its items, as `ingest` does, and return how many rows it has."""
    config = make_config({f"source.{name}": str(value) for name, value in source.items()})
    with open_source(config, {}, reach) as opened:
        if opened.items:
            read_items(opened.items(), config.source)
        return sum(chunk.n_read for _, chunk in opened.chunks(config, NOW))


def refusal(reach: Reach | None, **source: Any) -> str:
    """Return what is said to somebody who may not read a source."""
    with pytest.raises(ConfigError) as raised:
        load(reach, **source)
    said = str(raised.value)
    assert SECRET not in said
    assert "source.name" in said
    return said


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that triggers may read; a secret lies beside it."""
    (tmp_path / "secret.csv").write_text(CSV + SECRET)
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "ratings.csv").write_text(CSV)
    return folder


CLOSED = (
    "/etc/passwd",
    "relative.csv",
    "~/ratings.csv",
    "~no such user/ratings.csv",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "local:///etc/passwd",
    "http://127.0.0.1/",
    "https://example.org/ratings.csv",
    "HTTP://example.org/",
    "ftp://example.org/x",
    "s3://bucket/x",
    "memory://x/y",
    "data:text/csv,user_id",
    "filecache::file:///proc/self/environ",
    "simplecache::/etc/passwd",
    "zip://x.csv::file:///etc/x.zip",
    "dir::file:///etc",
    "reference://x",
    "weird://x",
    "a\0b",
)


@pytest.mark.parametrize("uri", CLOSED)
@pytest.mark.parametrize("setting", ["uri", "test_uri", "items_uri", "users_uri"])
def test_a_trigger_reaches_nothing_by_default(uri: str, setting: str) -> None:
    assert f"source.{setting}" in refusal(triggered(), **{setting: uri})


def test_the_demo_and_what_the_operator_names_are_open(root: Path) -> None:
    file = root / "ratings.csv"
    own = make_config({"source.uri": str(file), "source.layout": "csv"})
    named = make_config({"source.uri": str(file)}).source
    reach = Reach(Deployment(own, {"shop": named}), by_trigger=True)

    assert load(reach, uri=file) == 3
    assert load(reach, uri=file, name="shop") == 3
    # The CLI is the operator's.
    assert load(None, uri=file) == 3
    assert load(Reach(), uri=file) == 3
    # The same words for a source that is there and for one that is not.
    others = [refusal(reach, uri=path) for path in (root / "x.csv", root.parent / "secret.csv")]
    assert others[0].replace("root/x.csv", "secret.csv") == others[1]
    triggered().judge(Config())


def test_a_root_opens_what_lies_in_it_and_nothing_else(root: Path) -> None:
    reach = triggered(roots=[str(root)])
    secret = root.parent / "secret.csv"
    (root / "link.csv").symlink_to(secret)
    (root / "folder").symlink_to(root.parent)
    (root / "inner.csv").symlink_to(root / "ratings.csv")
    beside = root.parent / "root-and-more"
    beside.mkdir()
    (beside / "ratings.csv").write_text(CSV)

    assert load(reach, uri=root / "ratings.csv") == 3
    assert load(reach, uri=f"{root}/../root/ratings.csv") == 3
    assert load(reach, uri=f"file://{root}/ratings.csv") == 3
    assert load(reach, uri=root / "inner.csv") == 3
    for wrong in (
        root / "link.csv",
        root / "folder" / "secret.csv",
        root / "folder",
        f"{root}/../secret.csv",
        f"file://{root}/../secret.csv",
        beside / "ratings.csv",
        root.parent,
    ):
        assert "trigger.roots" in refusal(reach, uri=wrong)
        assert "trigger.roots" in refusal(reach, uri=root / "ratings.csv", items_uri=wrong)


def test_links_in_a_folder_and_beside_a_file_are_judged(root: Path) -> None:
    reach = triggered(roots=[str(root)])
    secret = root.parent / "secret.csv"
    (root / "ratings.csv").unlink()
    (root / "u.data").write_text("1\t10\t4\t881250949\n")
    (root / "u.item").symlink_to(secret)
    assert "trigger.roots" in refusal(reach, uri=root)
    assert "trigger.roots" in refusal(reach, uri=root / "u.data")

    (root / "u.item").unlink()
    assert load(reach, uri=root) == 1
    (root / "u.data").unlink()
    (root / "u.data").symlink_to(secret)
    assert "trigger.roots" in refusal(reach, uri=root)


def test_a_root_may_be_a_link_itself(root: Path) -> None:
    alias = root.parent / "alias"
    alias.symlink_to(root)
    assert load(triggered(roots=[str(alias)]), uri=alias / "ratings.csv") == 3


def test_a_file_that_is_swapped_after_it_was_judged_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two system calls: what is read is what was judged."""
    file = root / "ratings.csv"
    secret = root.parent / "secret.csv"
    reach = triggered(roots=[str(root)])
    config = make_config({"source.uri": str(file)})
    real_open = os.open

    def swap() -> None:
        """Put a link to the secret in the file's place."""
        if not file.is_symlink():
            file.unlink()
            file.symlink_to(secret)

    def late_open(path: Any, *arguments: Any, **names: Any) -> int:
        """Open a file that was swapped just before."""
        if str(path) == str(file):
            swap()
        return real_open(path, *arguments, **names)

    monkeypatch.setattr(os, "open", late_open)
    assert "trigger.roots" in refusal(reach, uri=file)
    monkeypatch.undo()

    # Later: judged and hashed, but not yet read.
    file.unlink()
    file.write_text(CSV)
    with open_source(config, {}, reach) as opened:
        swap()
        with pytest.raises(ConfigError, match=r"trigger\.roots"):
            list(opened.chunks(config, NOW))
    file.unlink()
    file.write_text(CSV)
    with open_source(config, {}, reach) as opened:
        file.rename(root / "old.csv")
        file.write_text(CSV)
        with pytest.raises(InputError, match="changed while it was read"):
            list(opened.chunks(config, NOW))


@pytest.mark.parametrize("kind", ["fifo", "zero", "socket", "full", "folder of pipes", "chained"])
def test_what_is_no_regular_file_is_refused_at_once_whoever_names_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ratings.csv"
    source: dict[str, Any] = {"uri": path}
    good = tmp_path / "good.tsv"
    good.write_text(CSV.replace(",", "\t"))
    if kind in ("fifo", "folder of pipes", "chained"):
        os.mkfifo(path)
    if kind == "folder of pipes":
        good = good.rename(tmp_path.parent / "good.tsv")
        source = {"uri": tmp_path}
    if kind == "chained":
        source = {"uri": f"simplecache::file://{path}"}
    if kind in ("zero", "full"):
        path.symlink_to(f"/dev/{kind}")
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "socket":
            # The name of a socket is short.
            monkeypatch.chdir(tmp_path)
            listening.bind(path.name)
        started = time.monotonic()
        with pytest.raises(InputError, match=r"expected a regular file|got no file"):
            load(None, **source)
        with pytest.raises(InputError, match=r"expected a regular file"):
            load(None, uri=good, items_uri=path)
    assert time.monotonic() - started < 5


def test_an_unlisted_scheme_host_or_bucket_is_refused() -> None:
    reach = triggered(schemes=["https", "s3", "memory"], hosts=["files.example.org", "ratings"])
    for uri in (
        "http://files.example.org/x",
        "https://other.example.org/x",
        "https://files.example.org:8443/x",
        "https://files.example.org@evil.example/x",
        "https://me:pw@evil.example/files.example.org",
        "s3://other/x",
        "s3://ratings@other/x",
        "s3://ratings/../other/x",
        "s3://ratings/x?versionId=1",
        "gs://ratings/x",
        "simplecache::s3://ratings/x",
        "S3://ratings/x",
    ):
        assert "source.uri" in refusal(reach, uri=uri)

    UPath("memory://ratings/r.csv").write_text(CSV)
    assert load(reach, uri="memory://ratings/r.csv") == 3
    with pytest.raises(InputError):
        load(reach, uri="memory://ratings/gone.csv")


def test_every_public_host_of_the_web_is_no_bucket() -> None:
    reach = triggered(schemes=["https", "s3"], hosts=["*"])
    assert "bucket" in refusal(reach, uri="s3://any/x")
    reach.judge(make_config({"source.uri": "https://any.example.org/x"}))


ADDRESSES = {
    "8.8.8.8": True,
    "2606:4700::1111": True,
    "127.0.0.1": False,
    "127.8.8.8": False,
    "10.1.2.3": False,
    "172.16.0.1": False,
    "192.168.1.1": False,
    "169.254.169.254": False,
    "100.64.0.1": False,
    "0.0.0.0": False,
    "224.0.0.1": False,
    "255.255.255.255": False,
    "::1": False,
    "::": False,
    "::ffff:127.0.0.1": False,
    "::ffff:10.0.0.1": False,
    "::127.0.0.1": False,
    "64:ff9b::7f00:1": False,
    "2002:7f00:1::": False,
    "fe80::1": False,
    "fc00::1": False,
    "fec0::1": False,
    "ff02::1": False,
    "nonsense": False,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_only_addresses_of_the_public_internet_are_public(address: str) -> None:
    assert is_public(address) is ADDRESSES[address]


@dataclass
class Server:
    """A web server on this machine. What it was asked for, it remembers."""

    port: int
    asked: list[str] = field(default_factory=list)


@contextmanager
def serving(answer: Callable[[Any], None]) -> Iterator[Server]:
    """Give a server whose requests `answer` answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Answer."""
            server.asked.append(self.path)
            answer(self)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        server = Server(listening.server_port)
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def _send(handler: Any, body: str, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body.encode())


@pytest.fixture
def web() -> Iterator[Server]:
    """A server with ratings, and pages that send on to wherever their query says."""

    def answer(handler: Any) -> None:
        """Send ratings, or send on."""
        path, _, target = handler.path.partition("?")
        if path == "/away":
            _send(handler, SECRET, 302, Location=target)
        else:
            _send(handler, CSV)

    with serving(answer) as server:
        yield server


def test_inner_addresses_are_refused_however_they_are_spelt(web: Server) -> None:
    reach = triggered(schemes=["http", "https"], hosts=["*"])
    at = f":{web.port}/ratings.csv"
    for host in (
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "0",
        "user@127.0.0.1",
        "LOCALHOST",
    ):
        for address in (f"http://{host}{at}", f"HTTP://{host}{at}", f"https://{host}{at}"):
            with pytest.raises((ConfigError, SourceUnavailableError)):
                load(reach, uri=address)
    assert web.asked == []


def test_the_usual_port_of_an_inner_address_is_refused_by_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `*` the name says nothing: a public name may lead inside."""
    monkeypatch.setattr(socket, "getaddrinfo", _resolver("10.0.0.7", "8.8.8.8"))
    monkeypatch.setattr(socket.socket, "connect", _never_connected)
    reach = triggered(schemes=["http", "https"], hosts=["*"])
    for scheme in ("http", "https"):
        assert "not a public one" in refusal(reach, uri=f"{scheme}://public.example.org/x")


def _resolver(*addresses: str) -> Callable[..., list[Any]]:
    """Return what finds these addresses for any name."""

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        """Return the addresses."""
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, (address, port)) for address in addresses]

    return resolve


def _never_connected(*_: Any) -> None:
    pytest.fail("a connection was made")


def test_the_connection_goes_to_the_address_that_was_judged(
    web: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere at a second look-up is looked up once."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, **names: Any) -> list[Any]:
        """Find a public address first and an inner one from then on."""
        asked.append(host)
        address = "8.8.8.8" if len(asked) == 1 else "127.0.0.1"
        return list(real(address, port, **names))

    went: list[Any] = []

    def connect(_: Any, address: Any) -> None:
        """Take note of the address."""
        went.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(SourceUnavailableError):
        load(triggered(schemes=["http"], hosts=["*"]), uri="http://public.example.org/x")
    assert asked == ["public.example.org"]
    assert went == [("8.8.8.8", 80)]


def test_a_listed_host_may_lie_inside_and_each_redirect_is_judged(web: Server) -> None:
    listed = triggered(schemes=["http"], hosts=[f"localhost:{web.port}"])
    home = f"http://localhost:{web.port}"
    assert load(listed, uri=f"{home}/ratings.csv") == 3
    assert load(listed, uri=f"{home}/away?{home}/ratings.csv") == 3

    web.asked.clear()
    for target in (
        f"http://127.0.0.1:{web.port}/ratings.csv",
        f"https://localhost:{web.port}/ratings.csv",
        "ftp://localhost/ratings.csv",
    ):
        assert "source.uri" in refusal(listed, uri=f"{home}/away?{target}")
    # This one Python refuses by itself.
    with pytest.raises(SourceUnavailableError):
        load(listed, uri=f"{home}/away?file:///etc/passwd")
    assert [path.partition("?")[0] for path in web.asked] == ["/away"] * 4


def test_a_proxy_of_the_environment_is_no_way_around(
    web: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{web.port}")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(socket, "getaddrinfo", _resolver("10.0.0.7"))
    monkeypatch.setattr(socket.socket, "connect", _never_connected)
    assert urllib.request.getproxies()["http"]
    reach = triggered(schemes=["http"], hosts=["*"])
    assert "not a public one" in refusal(reach, uri="http://metadata.example.org/x")
    assert web.asked == []


def test_a_server_that_goes_silent_is_given_up() -> None:
    ended = threading.Event()

    def answer(handler: Any) -> None:
        """Send a little, and no more."""
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"user_id")
        handler.wfile.flush()
        ended.wait(20)

    reach = Reach(Deployment(limits=Limits(stall_seconds=0.5)))
    with serving(answer) as server:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=r"0\.5 s|timed out"):
            load(reach, uri=f"http://127.0.0.1:{server.port}/r.csv")
        assert time.monotonic() - started < 5
        ended.set()


def test_a_server_that_drips_is_given_up() -> None:
    """A byte now and then is no progress either."""
    ended = threading.Event()

    def answer(handler: Any) -> None:
        """Send byte by byte."""
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not ended.wait(0.1):
            try:
                handler.wfile.write(b"1")
                handler.wfile.flush()
            except OSError:
                return

    reach = Reach(Deployment(limits=Limits(stall_seconds=1)))
    with serving(answer) as server:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=r"nothing came for 1 s"):
            load(reach, uri=f"http://127.0.0.1:{server.port}/r.csv")
        assert time.monotonic() - started < 5
        ended.set()
