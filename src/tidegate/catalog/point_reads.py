"""Reads of single rows, the catalog's hottest: one thread, one connection, many answers at a time.

The thread takes all that waits, and wakes the event loop once for all of its answers. A library's
wake-up for each of them costs more than the read itself, since the two threads then take the
interpreter's lock from each other in the middle of every statement. It also makes the values of
the rows, since what runs many times in a row takes a third of its time between two requests.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Row = Sequence[Any]
_Question = tuple["asyncio.Future[Any]", str, Mapping[str, Any], Callable[[Row], Any]]
_Answer = tuple["asyncio.Future[Any]", Any, Exception | None]


class PointReads:
    """``connection`` is used by the thread alone (``check_same_thread`` off), and closed by it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._line: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="point-reads", daemon=True)
        self._thread.start()

    def first(
        self, sql: str, parameters: Mapping[str, Any], make: Callable[[Row], T]
    ) -> "asyncio.Future[T | None]":
        """What ``make`` makes of the first row, on the thread; None without a row.
        sqlite3.Error, and what ``make`` raises."""
        answer: asyncio.Future[T | None] = self._loop.create_future()
        self._line.put((answer, sql, parameters, make))
        return answer

    async def close(self) -> None:
        """After the last answer was given."""
        self._line.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        question = self._line.get()
        while question is not None:
            answers: list[_Answer] = []
            while question is not None:
                answers.append(self._ask(*question))
                try:
                    question = self._line.get_nowait()
                except queue.Empty:
                    break
            self._loop.call_soon_threadsafe(_give, answers)
            if question is not None:
                question = self._line.get()
        self._connection.close()

    def _ask(
        self,
        answer: "asyncio.Future[Any]",
        sql: str,
        parameters: Mapping[str, Any],
        make: Callable[[Row], Any],
    ) -> _Answer:
        try:
            row = self._connection.execute(sql, parameters).fetchone()
            return answer, None if row is None else make(row), None
        except Exception as error:  # its asker's own, and nobody else's
            return answer, None, error


def _give(answers: Sequence[_Answer]) -> None:
    for answer, value, error in answers:
        if answer.done():  # nobody waits any more
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
