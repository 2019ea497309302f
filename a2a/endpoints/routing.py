"""The URLs of WebSockets."""

from channels.routing import URLRouter
from django.urls import re_path

from a2a.endpoints.consumers import Nowhere, Socket

websockets = URLRouter([re_path(r"^ws/?\Z", Socket.as_asgi()), re_path("", Nowhere.as_asgi())])
