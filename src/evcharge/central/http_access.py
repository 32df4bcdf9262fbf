"""Who may use the operators' interface."""

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp, Guard, Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from evcharge.central.desk import Desk
from evcharge.central.http_door import retry_after
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Role
from evcharge.errors import DatabaseUnusable
from evcharge.limits import Failures, Places, network_of
from evcharge.storage.registry import Token
from evcharge.throttle import Throttle

WRONG_TOKENS_FREE = 10
STREAMS_IN_ALL = 100
STREAMS_EACH = 10
STREAMS_RETRY_S = 15.0


class WrongTokens:
    """Who has sent too many waits before another wrong one is answered as such; a right one never does."""

    def __init__(self, log: FilteringBoundLogger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now_s = now_s
        self._failures = Failures(WRONG_TOKENS_FREE)
        self._throttle = Throttle()

    def wait_s(self, who: str) -> float:
        return self._failures.wait_s(who, self._now_s())

    def right(self, who: str) -> None:
        self._failures.succeeded(who)

    def wrong(self, who: str) -> None:
        now_s = self._now_s()
        wait_s = self._failures.failed(who, now_s)
        if wait_s and (before := self._throttle.admit(who, now_s)) is not None:
            silenced = {"silenced_before": before} if before else {}
            self._log.warning("wrong_tokens", address=who, wait_s=wait_s, **silenced)


class TokenLookups:
    """Which tokens are known. One look into the database at a time, for all who ask meanwhile: so a flood of wrong
    tokens costs little, and keeps no right one waiting. Belongs to the event loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._wanted: dict[str, asyncio.Future[Token | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def find(self, token: str) -> Token | None:
        """Raises `DatabaseUnusable`."""
        token_hash = hash_key(token)
        if token_hash not in self._wanted:
            self._wanted[token_hash] = asyncio.get_running_loop().create_future()
        found = self._wanted[token_hash]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look())
        return await asyncio.shield(found)  # as others may wait for it

    async def name_of(self, header: str) -> str | None:
        """Whose token an `Authorization` header has, if it is known."""
        given = _given_token(header, basic=True)
        try:
            token = await self.find(given) if given else None
        except DatabaseUnusable:
            return None
        return token.name if token is not None else None

    async def _look(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                found = await self._desk.tokens(wanted.keys())
            except DatabaseUnusable as problem:
                for waiting in wanted.values():
                    waiting.set_exception(problem)
                    waiting.exception()  # Whoever asked may have left.
            else:
                for token_hash, waiting in wanted.items():
                    waiting.set_result(found.get(token_hash))


class TokenCheck(AbstractAuthenticationMiddleware):
    """No token, no answer. A browser may give it as the password of HTTP's basic authentication, to look only:
    it sends that again by itself, whoever has made the page that makes it ask.

    A token is looked up by its SHA-256: the time that it takes tells of the hash, which is of no use to guess one.
    """

    def __init__(self, app: ASGIApp, tokens: TokenLookups, wrong: WrongTokens, **settings: Any) -> None:
        super().__init__(app, exclude_http_methods=(), **settings)  # Litestar would let all OPTIONS through.
        self._tokens = tokens
        self._wrong = wrong

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        changes = connection.scope.get("method") not in ("GET", "HEAD")
        given = _given_token(connection.headers.get("authorization", ""), basic=not changes)
        if not given:
            raise _not_authenticated("send a token: `Authorization: Bearer TOKEN`; `evcharge token add` makes one")
        who = network_of(connection.client.host if connection.client is not None else "")
        token = await self._tokens.find(given)
        if token is None:
            if wait_s := self._wrong.wait_s(who):
                raise HTTPException(
                    f"too many wrong tokens from this address; wait {retry_after(wait_s)} s, or send a right one",
                    status_code=429,
                    headers={"Retry-After": retry_after(wait_s)},
                )
            self._wrong.wrong(who)
            raise _not_authenticated("this token is not known; `evcharge token list` shows those that are")
        self._wrong.right(who)
        return AuthenticationResult(user=token, auth=given)


def _not_authenticated(reason: str) -> HTTPException:
    asks_for = 'Bearer, Basic realm="evcharge: the token is the password"'
    return HTTPException(reason, status_code=401, headers={"WWW-Authenticate": asks_for})


def _given_token(header: str, basic: bool) -> str | None:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic" and basic:
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except ValueError:  # no base64, or no UTF-8 in it
            return None
    return None


def operators_only(connection: ASGIConnection[Any, Token, Any, Any], _: BaseRouteHandler) -> None:
    if connection.user.role is not Role.OPERATOR:
        raise HTTPException(
            f"the token {connection.user.name} is a viewer's; to change something takes an operator's",
            status_code=403,
        )


OPERATORS: list[Guard] = [operators_only]


def few_at_a_time(app: ASGIApp) -> ASGIApp:
    """For answers that last: each takes a place until it ends."""
    places = Places(STREAMS_IN_ALL, STREAMS_EACH)

    async def in_its_place(scope: Scope, receive: Receive, send: Send) -> None:
        with places.taken(scope["user"].name) as there:
            if not there:
                raise HTTPException(
                    f"there are {STREAMS_EACH} such answers under way for this token, or {STREAMS_IN_ALL} in all;"
                    " end one first",
                    status_code=429,
                    headers={"Retry-After": retry_after(STREAMS_RETRY_S)},
                )
            await app(scope, receive, send)

    return in_its_place
