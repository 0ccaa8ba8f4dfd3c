"""Servers that take metrics as a monitoring system does: by StatsD, and OpenTelemetry over HTTP."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_GAUGE = re.compile(r"(?P<name>[^,:]+)(?P<tags>(,[^:]*)?):(?P<value>[^|]+)\|g")


@dataclass
class Received:
    """The gauges that came, in order: name, tags, value.

    Attributes:
        port: where the server listens.
        gauges: what came; of others than this project's too.
    """

    port: int
    gauges: list[tuple[str, dict[str, str], float]] = field(default_factory=list)

    def ours(self) -> list[tuple[str, dict[str, str], float]]:
        """Return the gauges of this project, without Airflow's prefix."""
        mine = [gauge for gauge in self.gauges if gauge[0].startswith("airflow.mf.")]
        return [(name.removeprefix("airflow."), tags, value) for name, tags, value in mine]

    def tags(self) -> dict[str, set[str]]:
        """Return the names of the tags that each gauge of this project came with."""
        found: dict[str, set[str]] = {}
        for name, tags, _ in self.ours():
            found.setdefault(name, set()).update(tags)
        return found

    def values(self, name: str, **tags: str) -> list[float]:
        """Return the values of one of this project's gauges that have at least these tags."""
        return [
            value
            for known, having, value in self.ours()
            if known == name and tags.items() <= having.items()
        ]


@contextmanager
def statsd_server() -> Iterator[Received]:
    """Listen to StatsD's packets, with tags as InfluxDB writes them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        received = Received(listening.getsockname()[1])

        def listen() -> None:
            # An empty packet ends it.
            while packet := listening.recv(65_536):
                for line in packet.decode().splitlines():
                    if gauge := _GAUGE.fullmatch(line):
                        pairs = (pair.split("=") for pair in gauge["tags"].split(",") if pair)
                        tags = dict(pairs)
                        received.gauges.append((gauge["name"], tags, float(gauge["value"])))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield received
        finally:
            listening.sendto(b"", listening.getsockname())
            thread.join()


@contextmanager
def otlp_server() -> Iterator[Received]:
    """Take OpenTelemetry's metrics as Protobuf over HTTP."""
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Take one export."""
            request = service.ExportMetricsServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            received.gauges.extend(_points(request))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(server.server_port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _points(request: Any) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the points of all gauges of an export."""
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.gauge.data_points:
                    tags = {tag.key: tag.value.string_value for tag in point.attributes}
                    value = getattr(point, point.WhichOneof("value"))
                    yield metric.name, tags, float(value)
