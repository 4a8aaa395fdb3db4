"""Errors as HTTP problems (RFC 9457) with Leeward's `code` and `remedy`."""

from __future__ import annotations

from http import HTTPStatus

from fastapi.responses import JSONResponse

from appliance.domain.errors import (
    Canceled,
    ConfigInvalid,
    DaemonUnreachable,
    EngineError,
    InternalError,
    LeewardError,
    LicenseError,
    NodeError,
    NotFound,
    NotPermitted,
    OperationConflict,
    OperatorError,
    PlanNotApproved,
    PlanOutdated,
    PreflightBlocked,
    RequestInvalid,
    SignInRefused,
    StoreFull,
    TrustError,
)
from bundles.errors import StoreUnusable

MEDIA_TYPE = "application/problem+json"

HTTP_STATUS: dict[type[LeewardError], HTTPStatus] = {
    OperatorError: HTTPStatus.BAD_REQUEST,
    ConfigInvalid: HTTPStatus.INTERNAL_SERVER_ERROR,
    RequestInvalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotPermitted: HTTPStatus.FORBIDDEN,
    SignInRefused: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    OperationConflict: HTTPStatus.CONFLICT,
    PreflightBlocked: HTTPStatus.CONFLICT,
    PlanOutdated: HTTPStatus.CONFLICT,
    PlanNotApproved: HTTPStatus.CONFLICT,
    DaemonUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    TrustError: HTTPStatus.UNPROCESSABLE_ENTITY,
    LicenseError: HTTPStatus.CONFLICT,
    NodeError: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreFull: HTTPStatus.INSUFFICIENT_STORAGE,
    StoreUnusable: HTTPStatus.SERVICE_UNAVAILABLE,
    EngineError: HTTPStatus.SERVICE_UNAVAILABLE,
    Canceled: HTTPStatus.CONFLICT,
    InternalError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""A class without an entry takes that of its nearest parent."""


def http_status(error: type[LeewardError]) -> HTTPStatus:
    """Return the status for an error class; raises KeyError where neither it nor a parent has one."""
    for parent in error.__mro__:
        if parent in HTTP_STATUS:
            return HTTP_STATUS[parent]
    raise KeyError(error.__name__)


def problem(error: LeewardError) -> JSONResponse:
    """Say an error over HTTP."""
    status = http_status(type(error))
    return JSONResponse(
        {
            "type": f"urn:leeward:error:{error.code}",
            "title": error.title,
            "status": int(status),
            "detail": error.detail,
            "code": error.code,
            "remedy": error.remedy,
        },
        status_code=status,
        media_type=MEDIA_TYPE,
    )
