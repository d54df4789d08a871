"""Fanbus: real-time web applications in Python, on all cores, without a broker.

One process per core serves HTTP and WebSocket on one port; a bus in shared memory carries every
published message to the clients of every worker.
"""

from fanbus._core import Replay, Session, __version__
from fanbus.app import Fanbus
from fanbus.bus import Bus, Record, Subscription
from fanbus.events.event import Event
from fanbus.events.generated_stream import Events
from fanbus.events.topic_stream import EventStream
from fanbus.exceptions import (
    BusError,
    FanbusError,
    HTTPError,
    Lagged,
    MissingError,
    RouteError,
    StartError,
    ValidationError,
    WebSocketClosed,
)
from fanbus.forms import Form, Upload
from fanbus.history import History
from fanbus.openapi.settings import OpenAPI
from fanbus.parameters.markers import Body, Cookie, Header, Path, Query
from fanbus.requests import Request
from fanbus.responses import Response
from fanbus.routing.router import Router
from fanbus.server.reload.reexec import take_handover as _take_handover
from fanbus.websocket import WebSocket, WebSocketConfig

_take_handover()

__all__ = [
    "Body",
    "Bus",
    "BusError",
    "Cookie",
    "Event",
    "EventStream",
    "Events",
    "Fanbus",
    "FanbusError",
    "Form",
    "HTTPError",
    "Header",
    "History",
    "Lagged",
    "MissingError",
    "OpenAPI",
    "Path",
    "Query",
    "Record",
    "Replay",
    "Request",
    "Response",
    "RouteError",
    "Router",
    "Session",
    "StartError",
    "Subscription",
    "Upload",
    "ValidationError",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketConfig",
    "__version__",
]
