"""The management API's routes for content capture."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from appliance.domain.capture import LONGEST_CAPTURE
from appliance.domain.wire import to_plain
from appliance.entrypoints.management.callers import READING, Admin
from appliance.services.capture import ContentCapture


class CaptureBody(BaseModel):
    """For whom, why, and for how long."""

    model_config = ConfigDict(extra="forbid")

    auditor_pem: Annotated[str, Field(max_length=4_096)]
    reason: str
    lasts_s: Annotated[int, Field(ge=1, le=int(LONGEST_CAPTURE.total_seconds()))]


def capture_routes(capture: ContentCapture) -> APIRouter:
    """Make the routes. Any role sees whether content is captured; administrators change it."""
    routes = APIRouter()

    @routes.get("/v1/capture", dependencies=READING)
    def shown() -> Response:
        return JSONResponse(to_plain(capture.order()))

    @routes.put("/v1/capture")
    def switch_on(body: CaptureBody, caller: Admin) -> Response:
        lasts = timedelta(seconds=body.lasts_s)
        order = capture.switch_on(auditor_pem=body.auditor_pem, reason=body.reason, lasts=lasts, actor=caller.actor)
        return JSONResponse(to_plain(order))

    @routes.delete("/v1/capture")
    def switch_off(caller: Admin) -> Response:
        capture.switch_off(caller.actor)
        return Response(status_code=204)

    return routes
