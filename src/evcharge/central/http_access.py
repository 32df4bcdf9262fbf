"""Who may use the operators' interface."""

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
from evcharge.limits import Failures, Places, network_of
from evcharge.storage.registry import Token
from evcharge.throttle import Throttle

WRONG_TOKENS_FREE = 10
STREAMS_IN_ALL = 100
STREAMS_EACH = 10
STREAMS_RETRY_S = 15.0


class WrongTokens:
    """Who has sent too many waits. Tokens that have been right of late are let through: operators who share an
    address with whoever guesses, behind a proxy say, are not locked out."""

    def __init__(self, log: FilteringBoundLogger, now_s: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._now_s = now_s
        self._failures = Failures(WRONG_TOKENS_FREE)
        self._throttle = Throttle()
        self._right: set[str] = set()

    def wait_s(self, who: str, token_hash: str) -> float:
        return 0.0 if token_hash in self._right else self._failures.wait_s(who, self._now_s())

    def was(self, right: bool, who: str, token_hash: str) -> None:
        if right:
            self._right.add(token_hash)
            self._failures.succeeded(who)
            return
        self._right.discard(token_hash)
        now_s = self._now_s()
        wait_s = self._failures.failed(who, now_s)
        if wait_s and (before := self._throttle.admit(who, now_s)) is not None:
            silenced = {"silenced_before": before} if before else {}
            self._log.warning("wrong_tokens", address=who, wait_s=wait_s, **silenced)


class TokenCheck(AbstractAuthenticationMiddleware):
    """No token, no answer. A browser may give it as the password of HTTP's basic authentication, to look only:
    it sends that again by itself, whoever has made the page that makes it ask.

    A token is looked up by its SHA-256: the time that it takes tells of the hash, which is of no use to guess one.
    """

    def __init__(self, app: ASGIApp, desk: Desk, wrong: WrongTokens, **settings: Any) -> None:
        super().__init__(app, exclude_http_methods=(), **settings)  # Litestar would let all OPTIONS through.
        self._desk = desk
        self._wrong = wrong

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        changes = connection.scope.get("method") not in ("GET", "HEAD")
        given = _given_token(connection.headers.get("authorization", ""), basic=not changes)
        if not given:
            raise _not_authenticated("send a token: `Authorization: Bearer TOKEN`; `evcharge token add` makes one")
        who = network_of(connection.client.host if connection.client is not None else "")
        token_hash = hash_key(given)
        if wait_s := self._wrong.wait_s(who, token_hash):
            raise HTTPException(
                f"too many wrong tokens from this address; the next is looked at in {retry_after(wait_s)} s",
                status_code=429,
                headers={"Retry-After": retry_after(wait_s)},
            )
        token = await self._desk.token(token_hash)
        self._wrong.was(token is not None, who, token_hash)
        if token is None:
            raise _not_authenticated("this token is not known; `evcharge token list` shows those that are")
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
