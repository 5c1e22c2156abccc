"""The look at what is sent just now: may it still be?"""

from tidegate.services.watching import Watch


class Watcher:
    name = "watcher"
    every = 3.0

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    async def once(self) -> int:
        return await self._watch.look()
