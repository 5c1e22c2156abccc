"""Reads of single rows, the catalog's hottest: one thread, one connection, many answers at a time.

The thread takes all that waits, and wakes the event loop once for all of its answers. A library's
wake-up for each of them costs more than the read itself, since the two threads then take the
interpreter's lock from each other in the middle of every statement.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from typing import Any

_ASKERS_OWN = (sqlite3.Error, ValueError, OverflowError)
"""What a statement, or a value that it cannot take, can raise."""

Row = Sequence[Any] | None
_Question = tuple["asyncio.Future[Row]", str, Mapping[str, Any]]
_Answer = tuple["asyncio.Future[Row]", Row, Exception | None]


class PointReads:
    """``connection`` is used by the thread alone (``check_same_thread`` off), and closed by it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._line: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="point-reads", daemon=True)
        self._thread.start()

    async def row(self, sql: str, parameters: Mapping[str, Any]) -> Row:
        """The first row, or None. sqlite3.Error."""
        answer: asyncio.Future[Row] = self._loop.create_future()
        self._line.put((answer, sql, parameters))
        return await answer

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
        self, answer: "asyncio.Future[Row]", sql: str, parameters: Mapping[str, Any]
    ) -> _Answer:
        try:
            return answer, self._connection.execute(sql, parameters).fetchone(), None
        except _ASKERS_OWN as error:
            return answer, None, error


def _give(answers: Sequence[_Answer]) -> None:
    for answer, row, error in answers:
        if answer.done():  # nobody waits any more
            continue
        if error is None:
            answer.set_result(row)
        else:
            answer.set_exception(error)
