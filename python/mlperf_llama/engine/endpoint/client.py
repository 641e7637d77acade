"""One server over HTTP: its connections, its answers, and what is wrong with them in one line."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

import aiohttp
import msgspec

from .answer import Answer, EventLines, First, ServerError, ServerLostError
from .dialects import Dialect

# Under the 5 seconds after which vLLM and SGLang (uvicorn) close an idle connection.
KEEP_ALIVE_S = 3.0
# No answer of 128 tokens is as large; one that is does not end.
MOST_BYTES = 8 << 20
_SHOWN = 200


@dataclass(frozen=True)
class Patience:
    """Seconds: until a server is connected, answers a request of the probe, sends something more of an
    answer. `tries`: of one request, where a busy server is asked again; `pause_s`: before the first of them,
    doubled for each."""

    connect_s: float = 10.0
    probe_s: float = 120.0
    silence_s: float = 600.0
    tries: int = 7
    pause_s: float = 0.5


class Client:
    """`key`: the bearer token; it is sent to this address alone and stands in no message."""

    def __init__(self, address: str, key: str | None, patience: Patience) -> None:
        self.address = address
        self._key = key
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=patience.connect_s, sock_read=patience.silence_s
            ),
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        await self._http.close()

    async def get(self, path: str) -> bytes:
        """The content at `path`. ServerError: another status than 200."""
        try:
            async with self._http.get(self.address + path, allow_redirects=False) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._lost(error) from None

    async def ask(self, dialect: Dialect, body: bytes, streaming: bool, first: First) -> Answer:
        """One request's answer. `first`: told of an answer that streams once it has begun."""
        answer = Answer()
        try:
            async with self._http.post(
                self.address + dialect.path, data=body, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                if streaming:
                    await self._stream(response, dialect, answer, first)
                else:
                    dialect.take(answer, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._lost(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ServerError(f"{self.address}: expected JSON in UTF-8, found: {error}") from None
        except ServerError as error:
            if str(error).startswith(self.address):
                raise
            raise ServerError(f"{self.address}: {self._hidden(str(error))}") from None
        if not answer.finished:
            raise ServerLostError(f"{self.address}: the answer was cut off after {len(answer.tokens)} tokens")
        return answer

    async def _stream(
        self,
        response: aiohttp.ClientResponse,
        dialect: Dialect,
        answer: Answer,
        first: First,
    ) -> None:
        lines, begun, size = EventLines(), False, 0
        async for data in response.content.iter_any():
            size += len(data)
            if size > MOST_BYTES:
                raise ServerError(f"expected the end of an answer, found {size} bytes without one")
            for event in lines.feed(data):
                dialect.take(answer, event)
                if not begun and answer.begun:
                    begun = True
                    first(answer)
        if not lines.done:
            answer.finished = False

    async def _refusal(self, response: aiohttp.ClientResponse) -> ServerError:
        text = (await response.content.read(4096)).decode("utf-8", "replace")
        words = " ".join(self._hidden(text).split())[:_SHOWN]
        message = f"{self.address}{response.url.path}: status {response.status}{words and f': {words}'}"
        wait = response.headers.get("Retry-After", "")
        return ServerError(message, response.status, wait_s=float(wait) if wait.isdigit() else None)

    def _lost(self, error: Exception) -> ServerLostError:
        if isinstance(error, TimeoutError):
            words = "no answer in time"
        elif isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
            words = f"no TLS connection ({error})"
        elif isinstance(error, OSError) and error.strerror:
            words = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        elif isinstance(error, aiohttp.ClientPayloadError):
            words = "the answer was cut off"
        else:
            words = str(error) or type(error).__name__
        unsent = isinstance(error, aiohttp.ServerDisconnectedError)
        return ServerLostError(f"{self.address}: {self._hidden(words)}", unsent=unsent)

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text
