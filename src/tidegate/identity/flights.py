"""One call for many who wait for the same answer."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Flights(Generic[T]):
    """The first who asks goes; who asks meanwhile gets the same answer, or the same error. Whoever
    stops waiting takes nothing from the others: where that is the one who went, another goes."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Future[T]] = {}

    async def one(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        while (flight := self._under_way.get(key)) is not None:
            await asyncio.wait([flight])
            if not flight.cancelled():
                return flight.result()
        flight = self._under_way[key] = asyncio.get_running_loop().create_future()
        try:
            found = await ask()
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            flight.exception()  # perhaps nobody waits for it
            raise
        else:
            flight.set_result(found)
            return found
        finally:
            del self._under_way[key]
