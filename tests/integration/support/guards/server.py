"""The guards of config, the HTTP and WebSocket server."""

from __future__ import annotations

from config import socket_connection
from config.connection import HttpConnection
from config.server import Web
from config.socket_connection import SocketConnection
from tests.integration.support.guards.guard import Guard, source

GUARDS = [
    Guard(
        name="what a full connection refuses, its stream sends (`write_at_once`)",
        promise="9, a slow reader costs a bounded amount of memory",
        remove=lambda patch: patch.setattr(
            HttpConnection,
            "write_at_once",
            lambda self, data: self.transport.write(data) is None,
        ),
        checks=("test_write_at_once: test_a_client_that_does_not_read_is_not_written_to",),
    ),
    Guard(
        name="all that is sent passes middleware that wants to see it (`writer_of`)",
        promise="ASGI middleware sees each part of a body",
        remove=lambda patch: patch.setattr(
            HttpConnection, "writer_of", lambda self, _: self.write_at_once
        ),
        checks=("test_write_at_once: test_nothing_is_written_past_asgi_middleware",),
    ),
    Guard(
        name="a process that ends waits for requests on their way (`HttpConnection.shutdown`)",
        promise="a new version is deployed without a failed request",
        remove=lambda patch: patch.delattr(HttpConnection, "shutdown"),
        checks=(
            "test_web_shutdown: test_a_kept_connection_is_answered_once_more",
            "test_web_shutdown: test_a_connection_whose_first_request_comes_late_is_answered",
        ),
    ),
    Guard(
        name="a process that ends accepts the connections that wait (`stop_accepting`)",
        promise="a new version is deployed without a failed request",
        remove=lambda patch: patch.setattr(Web, "stop_accepting", Web.close_listeners),
        checks=("test_web_shutdown: test_a_connection_that_waits_in_the_listener_is_answered",),
    ),
    Guard(
        name="a socket's text is UTF-8 (`is_utf8`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(socket_connection, "is_utf8", lambda _: True),
        checks=("test_socket_connection: test_text_that_is_not_utf8_closes_the_socket",),
    ),
    Guard(
        name="a message has a bounded number of fragments (`FRAGMENTS`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(socket_connection, "FRAGMENTS", 1e9),
        checks=("test_socket_connection: test_a_message_has_a_bounded_number_of_fragments",),
    ),
    Guard(
        name="a bounded number of messages waits for the application (`WAITING`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(socket_connection, "WAITING", 1e9),
        checks=("test_socket_connection: test_a_bounded_number_of_messages_waits",),
    ),
    Guard(
        name="the rest of a message arrives in time (`_check_message`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.setattr(SocketConnection, "_check_message", lambda _: None),
        checks=(
            "test_socket_connection:"
            " test_a_message_whose_fragments_do_not_arrive_closes_the_socket",
            "test_socket_connection: test_a_frame_whose_rest_does_not_arrive_closes_the_socket",
        ),
    ),
    Guard(
        name="a client answers pings, or is told that it did not (`keepalive_timeout`)",
        promise="a WebSocket's client is bounded",
        remove=lambda patch: patch.delattr(SocketConnection, "keepalive_timeout"),
        checks=("test_socket_connection: test_a_client_that_answers_no_ping_is_disconnected",),
    ),
    Guard(
        name="nothing is written behind the response to a HEAD (`writer_of`)",
        promise="a connection's next response is where its client looks for it",
        remove=source(HttpConnection, "writer_of", 'self.cycle.scope["method"] == "HEAD"', "False"),
        checks=(
            "test_write_at_once: test_nothing_is_written_after_the_head_that_a_client_asked_for",
        ),
    ),
]
