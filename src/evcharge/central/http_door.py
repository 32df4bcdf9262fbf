"""What comes before and after every request: how much one address may ask for, and the headers of each answer."""

import base64
import hashlib
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from evcharge.central.http_page import STYLE
from evcharge.limits import Rate, network_of
from evcharge.protocol.operators import Problem

REQUESTS_PER_S = 50.0
REQUESTS_AT_ONCE = 200
MAX_HEAD_BYTES = 32 * 1024
YEAR_S = 365 * 24 * 3600

Scope = MutableMapping[str, Any]
Received = Callable[[], Awaitable[Any]]
Sent = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    # For the one page that there is, and any that a browser might take an answer for: no script, nobody's frame.
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'".encode(),
    ),
]
ONLY_TLS = (b"strict-transport-security", f"max-age={YEAR_S}".encode())


NameOf = Callable[[str], Awaitable[str | None]]
"""Whose token a header `Authorization` has, if it is known."""


async def nobody(header: str) -> None:
    """No token is known."""


class Door:
    """Around the whole interface: what is refused here costs next to nothing. `answers` counts by status.

    Where an address has asked for too much, who asks from there with a right token is still answered, and may ask
    for as much again: whoever else is behind that address takes nothing from it.
    """

    def __init__(
        self,
        app: App,
        answers: Counter[int],
        name_of: NameOf = nobody,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._answers = answers
        self._name_of = name_of
        self._now_s = now_s
        self._rate = Rate(REQUESTS_PER_S, REQUESTS_AT_ONCE)
        self._rate_of_known = Rate(REQUESTS_PER_S, REQUESTS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Received, send: Sent) -> None:
        always = [*HEADERS, ONLY_TLS] if scope["scheme"] == "https" else HEADERS

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._answers[message["status"]] += 1
                message = {**message, "headers": [*message["headers"], *always]}
            await send(message)

        app = await self._refusal(scope) or self._app
        await app(scope, receive, answer)

    async def _refusal(self, scope: Scope) -> App | None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
            return refusing(431, "too_large", f"the headers have more than {MAX_HEAD_BYTES} bytes")
        # A load balancer asks often, and to answer costs no more than to refuse.
        if scope["path"] == "/healthz":
            return None
        host = scope["client"][0] if scope["client"] else ""
        wait_s = self._rate.wait_s(network_of(host), self._now_s())
        if wait_s and (name := await self._name_of(_authorization(scope))) is not None:
            wait_s = self._rate_of_known.wait_s(name, self._now_s())
        if wait_s:
            reason = f"more than {REQUESTS_PER_S:g} requests a second from one address; ask again a little later"
            return refusing(429, "too_many_requests", reason, wait_s)
        return None


def _authorization(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"), "")


def refusing(status: int, code: str, reason: str, wait_s: float | None = None) -> App:
    """Whatever is asked, this is the answer."""

    async def refuse(scope: Scope, receive: Received, send: Sent) -> None:
        body = problem(code, reason)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if wait_s is not None:
            headers.append((b"retry-after", retry_after(wait_s).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})

    return refuse


def problem(code: str, reason: str) -> bytes:
    return msgspec.json.encode(Problem(code=code, reason=reason))


def retry_after(wait_s: float) -> str:
    """Whole seconds, as the header `Retry-After` wants them."""
    return str(max(1, math.ceil(wait_s)))
