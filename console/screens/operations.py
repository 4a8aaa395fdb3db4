"""All operations that the daemon remembers, newest first."""

from __future__ import annotations

from appliance.domain.operation import OperationId
from appliance.domain.projection import OperationView
from console.render import operation
from console.render.frame import Frame
from console.render.listing import Table
from console.screens.listing import ListScreen


class OperationsScreen(ListScreen[tuple[OperationView, ...]]):
    """A list; Enter opens one."""

    TABBED = "Operations"
    TITLE_WORDS = "Operations"
    LIST_TITLE = "Operations, newest first"

    async def read(self) -> tuple[OperationView, ...]:
        return await self.console.management.operations()

    def table(self, value: tuple[OperationView, ...], frame: Frame) -> Table:
        return operation.table(value, frame)

    def open_line(self, value: tuple[OperationView, ...], key: str) -> None:
        del value
        self.console.open_operation(OperationId(key))
