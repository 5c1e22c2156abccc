"""A web server of data that can be registered by its location: it answers how long the data is."""

import socket
import threading
from contextlib import suppress
from typing import Self


class Origin:
    """Runs while the context is entered; every path is ``size`` bytes of zeros."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._port = self._listener.getsockname()[1]

    def url(self, number: int) -> str:
        return f"http://127.0.0.1:{self._port}/{number}.img"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        # wakes the thread that waits for the next connection
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Length: {self.size}\r\nAccept-Ranges: none\r\n\r\n"
        ).encode()
        data = b""
        with connection, suppress(OSError):
            while more := connection.recv(64 * 2**10):
                data += more
                while b"\r\n\r\n" in data:
                    request, _, data = data.partition(b"\r\n\r\n")
                    body = b"" if request.startswith(b"HEAD ") else bytes(self.size)
                    connection.sendall(head + body)
