"""The engines behind the gateway: listed, drained for work on them, and given requests again."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.domain.errors import NotFound
from appliance.domain.operation import Actor
from appliance.domain.routing import EngineView
from appliance.ports import AuditLog, EngineBoard


class EngineControl:
    """Drains engines of the settings; `places` says where each is. Every method raises StateUnusable."""

    def __init__(self, places: Mapping[str, str], *, board: EngineBoard, audit: AuditLog) -> None:
        self._places = dict(places)
        self._board = board
        self._audit = audit

    def views(self) -> tuple[EngineView, ...]:
        """Return every engine, in the order of the settings."""
        drained = self._board.drained()
        told = {one.name: one for one in self._board.standings() or ()}
        return tuple(
            EngineView(name=name, place=place, is_drained=name in drained, standing=told.get(name))
            for name, place in self._places.items()
        )

    def set_drained(self, name: str, *, is_drained: bool, actor: Actor) -> EngineView:
        """Let an engine finish what it has and give it nothing new, or end that. Raises NotFound."""
        if name not in self._places:
            raise NotFound(detail=f"There is no engine {name}.", remedy="`leeward engine list` says which there are.")
        self._board.set_drained(name, is_drained=is_drained)
        self._audit.append(
            actor=actor.name,
            action="engine.drain" if is_drained else "engine.undrain",
            object_=name,
            outcome="succeeded",
            details={},
        )
        return next(view for view in self.views() if view.name == name)
