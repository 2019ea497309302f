"""The Docker daemon: what one container takes of its HTTP API, over a Unix socket or TCP."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx
from django.conf import settings

from aipartnerupflow.executors import ExecutorError, Json

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0
SHOWN_CHARACTERS: Final = 500
NOT_FOUND: Final = 404


class DaemonRefused(Exception):
    """The daemon answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Daemon:
    """A connection to the daemon. Methods raise DaemonRefused; `connected` says what else."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def labelled(self, *labels: str) -> list[Mapping[str, Any]]:
        """Return the containers, also ended ones, with all these labels, each `name` or `name=value`."""
        filters = json.dumps({"label": labels})
        found: list[Mapping[str, Any]] = await self._json("GET", "/containers/json", all="true", filters=filters)
        return found

    async def has(self, image: str) -> bool:
        """Return whether the image is on the machine."""
        try:
            await self._json("GET", f"/images/{quote(image, safe='/:@')}/json")
        except DaemonRefused as refused:
            if refused.status != NOT_FOUND:
                raise
            return False
        return True

    async def create(self, name: str, description: Json) -> None:
        await self._json("POST", "/containers/create", body=description, name=name)

    async def pull(self, image: str) -> None:
        """Pull the image. It takes as long as it takes: the caller sets the deadline."""
        parameters = {"fromImage": image}
        async with self._client.stream("POST", "/images/create", params=parameters, timeout=None) as response:
            await _check(response)
            async for line in response.aiter_lines():
                if (problem := json.loads(line).get("error")) is not None:
                    raise DaemonRefused(NOT_FOUND, str(problem))

    @asynccontextmanager
    async def attached(self, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield the frames of the output from now on, in chunks that end anywhere (Engine API, ContainerAttach)."""
        parameters = {"stream": "true", "stdout": "true", "stderr": "true"}
        path = f"/containers/{name}/attach"
        async with self._client.stream("POST", path, params=parameters, timeout=None) as response:
            await _check(response)
            yield response.aiter_raw()

    async def extract(self, name: str, folder: str, archive: AsyncIterator[bytes]) -> None:
        """Extract a tar archive in a folder of the container (Engine API, PutContainerArchive)."""
        path = f"/containers/{name}/archive"
        await _check(await self._client.put(path, params={"path": folder}, content=archive, timeout=None))

    @asynccontextmanager
    async def archived(self, name: str, folder: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Yield a folder of the container, which may have ended, as a tar archive (Engine API, ContainerArchive)."""
        path, plain = f"/containers/{name}/archive", {"Accept-Encoding": "identity"}
        parameters = {"path": folder}
        async with self._client.stream("GET", path, params=parameters, headers=plain, timeout=None) as response:
            await _check(response)
            yield response.aiter_raw()

    async def start(self, name: str) -> None:
        await self._json("POST", f"/containers/{name}/start")

    async def ended(self, name: str) -> Mapping[str, Any]:
        """Wait for its end, and return its `State`."""
        async with self._client.stream("POST", f"/containers/{name}/wait", timeout=None) as response:
            await _check(response)
            await response.aread()
        state: Mapping[str, Any] = (await self._json("GET", f"/containers/{name}/json"))["State"]
        return state

    async def remove(self, name: str) -> None:
        """Kill the container and remove it with all that it wrote. One that is gone is no error."""
        try:
            await self._json("DELETE", f"/containers/{quote(name, safe='')}", force="true", v="true")
        except DaemonRefused as refused:
            if refused.status not in (NOT_FOUND, httpx.codes.CONFLICT):  # conflict: its removal is under way
                raise

    async def _json(self, method: str, path: str, *, body: Json | None = None, **parameters: str) -> Any:
        response = await self._client.request(method, path, params=parameters, json=body)
        await _check(response)
        return response.json() if response.content else None


@asynccontextmanager
async def connected() -> AsyncIterator[Daemon]:
    """Connect to the daemon of `executors.docker.daemon`. Raises ExecutorError if it does not answer, also within the block."""
    address: str = settings.APFLOW.executors.docker.daemon
    scheme, _, rest = address.partition("://")
    transport = httpx.AsyncHTTPTransport(uds=rest if scheme == "unix" else None)
    host = "http://docker" if scheme == "unix" else f"http://{rest}"
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=host, timeout=timeout, trust_env=False) as client:
            answer = await client.get("/_ping")
            client.base_url = httpx.URL(f"{host}/v{answer.headers.get('Api-Version', '1.44')}")
            yield Daemon(client)
    except httpx.HTTPError as error:
        raise ExecutorError(
            f"The Docker daemon does not answer at {address} ({type(error).__name__}). The operator has to start it, let the "
            "user of the workers access it (the group docker), or correct executors.docker.daemon; then execute the task again."
        ) from None


async def _check(response: httpx.Response) -> None:
    """Raise DaemonRefused unless the answer is a success."""
    if response.is_success:
        return
    try:
        message = json.loads(await response.aread())["message"]
    except (ValueError, KeyError, TypeError):
        message = f"status {response.status_code}"
    raise DaemonRefused(response.status_code, str(message)[:SHOWN_CHARACTERS])
