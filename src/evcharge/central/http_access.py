"""Who may use the operators' interface."""

import base64
from typing import Any

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp, Guard

from evcharge.central.desk import Desk
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Role
from evcharge.storage.registry import Token


class TokenCheck(AbstractAuthenticationMiddleware):
    """No token, no answer. A browser may give it as the password of HTTP's basic authentication, to look only:
    it sends that again by itself, whoever has made the page that makes it ask."""

    def __init__(self, app: ASGIApp, desk: Desk, **settings: Any) -> None:
        super().__init__(app, **settings)
        self._desk = desk

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        changes = connection.scope.get("method") not in ("GET", "HEAD")
        given = _given_token(connection.headers.get("authorization", ""), basic=not changes)
        token = await self._desk.token(hash_key(given)) if given else None
        if token is None:
            raise HTTPException(
                "this token is not known; `evcharge token list` shows those that are"
                if given
                else "send a token: `Authorization: Bearer TOKEN`; `evcharge token add` makes one",
                status_code=401,
                headers={"WWW-Authenticate": 'Bearer, Basic realm="evcharge: the token is the password"'},
            )
        return AuthenticationResult(user=token, auth=given)


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
