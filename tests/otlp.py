"""A receiver of OTLP over HTTP, with the official messages, and a collector in front of it: a process of its own."""

import gzip
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.ports import free_port
from tests.servers import until

Span = dict[str, Any]


class Receiver:
    """A collector on loopback."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.points: list[Span] = []
        """Those of histograms, with `metric`, `unit`, `count`, `sum`, `bounds` and their attributes; later ones count again."""
        self.schemas: set[str] = set()
        self.bodies: list[bytes] = []
        received = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                is_packed = self.headers.get("Content-Encoding") == "gzip"
                received.take(self.path, gzip.decompress(body) if is_packed else body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/metrics":
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))
            return
        assert path == "/v1/traces", path
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.schemas.add(scope.schema_url)
                self.spans += [_as_dict(span) for span in scope.spans]

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.histogram.data_points:
                        facts = {"metric": metric.name, "unit": metric.unit, "bounds": list(point.explicit_bounds)}
                        self.points.append(facts | {"count": point.count, "sum": point.sum} | _values(point))

    def named(self, name: str, **attributes: Any) -> Span:
        """The span of that name with these attributes, once it is here."""
        wanted = {"name": name, **attributes}.items()
        return until(
            lambda: next((each for each in list(self.spans) if wanted <= each.items()), {}),
            seconds=60,
            what=f"the span {name}",
        )

    def of(self, name: str) -> list[Span]:
        """All spans of that name."""
        return [each for each in list(self.spans) if each["name"] == name]

    def point(self, metric: str, **attributes: Any) -> Span:
        """A point of the metric with these attributes, once it is here."""
        wanted = {"metric": metric}.items() | attributes.items()
        return until(
            lambda: next((each for each in list(self.points) if all(each.get(n) == v for n, v in wanted)), {}),
            seconds=60,
            what=f"the metric {metric}",
        )


def _values(of: Any) -> Span:
    return {each.key: _value(each.value) for each in of.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return tuple(_value(each) for each in value.array_value.values) if kind == "array_value" else getattr(value, kind)


def _as_dict(span: Any) -> Span:
    return {
        "name": span.name,
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "kind": span.kind,
        "is_error": span.status.code == 2,
        "began": span.start_time_unix_nano,
        "ended": span.end_time_unix_nano,
        "events": {event.name: _values(event) for event in span.events},
        **_values(span),
    }


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()


@contextmanager
def collector(receiver: Receiver, folder: Path) -> Iterator[tuple[str, str]]:
    """Run the collector Rotel, which sends all to the receiver. Gives its addresses for HTTP and gRPC."""
    spec = find_spec("rotel")
    assert spec is not None
    assert spec.origin is not None
    http, grpc = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    options = {"otlp-http-endpoint": http, "otlp-grpc-endpoint": grpc, "exporter": "otlp"}
    options |= {"otlp-exporter-endpoint": receiver.url, "otlp-exporter-protocol": "http", "batch-timeout": "50ms"}
    command = [str(Path(spec.origin).with_name("rotel-agent")), "start"]
    command += [part for name, value in options.items() for part in (f"--{name}", value)]
    with (folder / "rotel.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        yield f"http://{http}", f"http://{grpc}"
    finally:
        process.terminate()
        process.wait()
