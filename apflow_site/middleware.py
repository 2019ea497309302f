"""The door for HTTP: requests to foreign hosts, and writes from foreign origins, are refused."""

from collections.abc import Awaitable, Callable

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.decorators import async_only_middleware

from apflow_site.hosts import is_own_host, is_own_origin

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@async_only_middleware
def host_check(get_response: GetResponse) -> GetResponse:
    """Refuse a Host that is neither an address, this machine's name nor allowed, and writes from foreign origins."""

    async def check(request: HttpRequest) -> HttpResponseBase:
        host = request.headers.get("Host", "")
        if not is_own_host(host):
            return _refusal(400, f"Host {host!r} is not allowed. Add it to server.allowed_hosts.")
        origin = request.headers.get("Origin")
        if origin and request.method not in SAFE_METHODS and not is_own_origin(origin, host=host):
            return _refusal(403, f"Origin {origin!r} is not this server.")
        return await get_response(request)

    return check


def _refusal(status: int, message: str) -> JsonResponse:
    return JsonResponse({"error": {"code": status, "message": message}}, status=status)
