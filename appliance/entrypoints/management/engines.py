"""The management API's routes for the engines behind the gateway."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from appliance.domain.wire import to_plain
from appliance.entrypoints.management.callers import READING, Admin
from appliance.services.engines import EngineControl


def engine_routes(engines: EngineControl) -> APIRouter:
    """Make the routes: reading for every role, changing for administrators."""
    router = APIRouter()

    @router.get("/v1/engines", dependencies=READING)
    def listed() -> Response:
        return JSONResponse(to_plain(engines.views()))

    @router.put("/v1/engines/{name}/drain")
    def drain(name: str, caller: Admin) -> Response:
        return JSONResponse(to_plain(engines.set_drained(name, is_drained=True, actor=caller.actor)))

    @router.delete("/v1/engines/{name}/drain")
    def undrain(name: str, caller: Admin) -> Response:
        return JSONResponse(to_plain(engines.set_drained(name, is_drained=False, actor=caller.actor)))

    return router
