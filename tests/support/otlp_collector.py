"""An OpenTelemetry collector that keeps all spans: OTLP over HTTP, in protobuf."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.ports import HOST


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span as received, ids in hex, times in nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    started: int
    ended: int
    attributes: dict[str, str]


@dataclass
class Collector:
    """Listens at `url`. `bodies` has the uncompressed body of each request."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self, trace: str) -> list[Span]:
        """All spans of the trace, in the order in which they arrived."""
        return [span for body in self.bodies for span in _read(body, trace)]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector in a thread of its own."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            assert (self.path, self.headers["Content-Type"]) == (
                "/v1/traces",
                "application/x-protobuf",
            )
            collector.bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Taking)
    collector = Collector(f"http://{HOST}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _read(body: bytes, trace: str) -> Iterator[Span]:
    for part in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = {one.key: one.value.string_value for one in part.resource.attributes}
        for scope in part.scope_spans:
            for span in scope.spans:
                if span.trace_id.hex() == trace:
                    yield Span(
                        service=named["service.name"],
                        name=span.name,
                        trace=trace,
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        started=span.start_time_unix_nano,
                        ended=span.end_time_unix_nano,
                        attributes={
                            one.key: one.value.string_value or str(one.value.int_value)
                            for one in span.attributes
                        },
                    )
