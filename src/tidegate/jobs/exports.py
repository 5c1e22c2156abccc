"""The look for what exports left whose tasks ended before they could tidy up."""

from tidegate.services.export_objects import ExportObjects

LOOK_EVERY = 30.0


class Exports:
    name = "exports"
    every = LOOK_EVERY

    def __init__(self, objects: ExportObjects) -> None:
        self._objects = objects

    async def once(self) -> int:
        return await self._objects.tidy()
