"""The guards of streams.dialects: a WebSocket's handshake and frames, text written at once."""

from __future__ import annotations

from django.http import HttpRequest

from streams.access import authentication
from streams.dialects import websocket, websocket_api
from streams.dialects.live_events import Arrival
from streams.dialects.websocket import Socket
from streams.dialects.websocket_api import check_origin
from tests.integration.support.guards.guard import Guard, source


def check_origin_if_there_is_one(request: HttpRequest) -> None:
    if "Origin" in request.headers:
        check_origin(request)


GUARDS = [
    Guard(
        name="a session's handshake needs an `Origin` of this site (`check_origin`)",
        promise="a foreign page opens no WebSocket with a session",
        remove=lambda patch: patch.setattr(websocket_api, "check_origin", lambda _: None),
        checks=("test_websocket_access: test_a_session_needs_an_origin_of_this_site",),
    ),
    Guard(
        name="a handshake without `Origin` is refused (`check_origin`)",
        promise="a foreign page opens no WebSocket with a session",
        remove=lambda patch: patch.setattr(
            websocket_api, "check_origin", check_origin_if_there_is_one
        ),
        checks=("test_websocket_access: test_a_session_needs_an_origin_of_this_site",),
    ),
    Guard(
        name="the handshake's token authenticates the frames (`Socket.open`)",
        promise="a foreign page sends no frame with a session",
        remove=source(Socket, "open", "if response.token:", "if False:"),
        checks=(
            "test_websocket_access: test_a_page_with_its_own_token_cannot_use_its_visitors_session",
        ),
    ),
    Guard(
        name="the session's cookie authenticates the frames (`KEPT`)",
        promise="a frame of a WebSocket is its client's own request",
        remove=lambda patch: patch.setattr(websocket, "KEPT", (b"host", b"authorization")),
        checks=("test_websocket_access: test_a_session_of_this_site_may_ask",),
    ),
    Guard(
        name="a frame is a POST, which needs the scope `write` (`_answer`)",
        promise="a frame of a WebSocket is its client's own request",
        remove=lambda patch: patch.setattr(authentication, "_require_scopes", lambda *_: None),
        checks=("test_websocket_access: test_each_frame_needs_the_scope_to_write",),
    ),
    Guard(
        name="a refusal closes with 4000 and its status (`_refuse`)",
        promise="a WebSocket's client learns why it is refused",
        remove=source(Socket, "_refuse", "HTTP + status if", "HTTP if"),
        checks=(
            "test_websocket_access: test_a_token_that_is_not_valid_closes_with_4401",
            "test_websocket_access: test_an_owner_may_open_so_many_sockets",
        ),
    ),
    Guard(
        name="a socket resumes after the last id (`cursor_of`)",
        promise="1, no repeat and no gap over a WebSocket",
        remove=lambda patch: patch.setattr(websocket_api, "cursor_of", lambda *_: None),
        checks=("test_websocket_access: test_a_socket_resumes_after_the_last_id",),
    ),
    Guard(
        name="the handshake's `Last-Event-ID` counts (`Socket._handshake`)",
        promise="1, no repeat and no gap over a WebSocket",
        remove=source(Socket, "_handshake", 'if field[0] == b"last-event-id"', "if False"),
        checks=("test_websocket_access: test_a_socket_resumes_after_the_last_id",),
    ),
    Guard(
        name="what is more than text is left to the stream's task (`Arrival._with_text`)",
        promise="a stream of another wire ends with its run, or breaks",
        remove=source(
            Arrival,
            "_with_text",
            "not isinstance(event, Delta) or event.attempt != reply.attempt",
            "False",
        ),
        checks=("unit.test_live_events: test_an_ending_ends_the_stream",),
    ),
    Guard(
        name="a wire's options are part of what its frames are shared by (`Arrival.frames`)",
        promise="each wire's client ends with the stored reply",
        remove=source(Arrival, "frames", "wire.variant", "None"),
        checks=("unit.test_live_events: test_wires_of_a_kind_that_differ_get_frames_of_their_own",),
    ),
]
