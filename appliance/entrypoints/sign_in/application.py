"""The sign-in service's two routes: a nonce, and a key for a token or a password."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import structlog
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from appliance.adapters.sign_in import Directory, IssuerKeys, TokenReader
from appliance.client import ApplianceClient
from appliance.domain.errors import LeewardError, RequestInvalid, SignInRefused, SignInUnavailable
from appliance.domain.sign_in import Person, SignInSettings
from appliance.domain.usage import IssuedKey
from appliance.entrypoints.management.problems import problem
from appliance.services.sign_in import Attempts, Nonces, Once

log = structlog.get_logger()

_SAME_FOR_ALL = "The site does not vouch for this token or password."


class SignInBody(BaseModel):
    """A token, or an account with its password; and the team, for whoever has several."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    token: str | None = Field(default=None, max_length=16_384, repr=False)
    account: str | None = Field(default=None, max_length=128)
    password: str | None = Field(default=None, max_length=1_024, repr=False)
    team: str | None = Field(default=None, max_length=64)

    @model_validator(mode="after")
    def _is_one_of_both(self) -> SignInBody:
        with_password = self.account is not None and self.password is not None
        if (self.token is not None) == with_password or (self.account is None) != (self.password is None):
            raise ValueError("give a token, or an account with its password")
        return self


class Doorkeeper:
    """Finds out who somebody is, by the ways that the site has."""

    def __init__(self, settings: SignInSettings) -> None:
        self.nonces = Nonces(lambda: secrets.token_urlsafe(24))
        self._attempts = Attempts()
        self._directory = None if settings.ldap is None else Directory(settings.ldap)
        self._tokens = None
        if settings.oidc is not None:
            self._tokens = TokenReader(
                settings.oidc,
                keys=IssuerKeys(settings.oidc).for_token,
                take=Once().take,
                redeem=self.nonces.redeem,
                started_at=datetime.now(UTC),
            )

    def person(self, body: SignInBody) -> Person:
        """Return who it is. Raises SignInRefused, SignInUnavailable."""
        now = datetime.now(UTC)
        if body.token is not None:
            if self._tokens is None:
                raise _no_such_way("tokens")
            return self._tokens.read(body.token, now)
        if self._directory is None or body.account is None or body.password is None:
            raise _no_such_way("passwords")
        tried: list[str] = []

        def before(name: str) -> None:
            self._attempts.begin(name, now)
            tried.append(name)

        try:
            person = self._directory.person(body.account, body.password, before=before)
        except SignInUnavailable:
            for name in tried:
                self._attempts.forgive(name)
            raise
        for name in tried:
            self._attempts.succeeded(name)
        return person


def create_app(settings: SignInSettings, *, management: Path) -> FastAPI:
    """Make the application; `management` is the daemon's socket."""
    app = FastAPI(title="Leeward sign-in", docs_url=None, redoc_url=None, openapi_url=None)
    doorkeeper = Doorkeeper(settings)

    @app.post("/v1/sign-in/nonce")
    def nonce() -> Response:
        return JSONResponse({"nonce": doorkeeper.nonces.issue(datetime.now(UTC))}, status_code=201)

    @app.post("/v1/sign-in")
    async def sign_in(body: SignInBody) -> Response:
        try:
            person = await run_in_threadpool(doorkeeper.person, body)
        except SignInRefused as refused:
            log.warning("sign_in_refused", detail=refused.detail, with_token=body.token is not None)
            raise SignInRefused(detail=_SAME_FOR_ALL, remedy=refused.remedy) from refused
        async with ApplianceClient(management) as client:
            issued = await client.sign_in(person, team=body.team)
        log.info("signed_in", method=person.method.value, key_id=issued.key.key_id, team=issued.key.team)
        return _told(issued)

    _add_errors(app)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(LeewardError)
    def foreseen(_request: Request, error: LeewardError) -> Response:
        if not isinstance(error, SignInRefused):
            log.error("sign_in_failed", code=error.code, detail=error.detail)
        return problem(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(str(each["msg"]) for each in error.errors())  # never what was sent: it may be a password
        return problem(RequestInvalid(detail=wrong, remedy="docs/sign-in.md says what is sent."))


def _told(issued: IssuedKey) -> Response:
    key = issued.key
    ends_at = None if key.expires_at is None else key.expires_at.isoformat()
    told = {"key_id": key.key_id, "secret": issued.secret, "team": key.team, "expires_at": ends_at}
    return JSONResponse(told, status_code=201, headers={"Cache-Control": "no-store"})


def _no_such_way(what: str) -> SignInRefused:
    return SignInRefused(
        detail=f"This site takes no {what}.", remedy="Ask the node's administrator which way there is."
    )
