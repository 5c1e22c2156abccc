"""HTTP as the driver reads it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tidegate.bench.answers import Answer, BenchError, Head, complete
from tidegate.bench.driver import Connection, Target
from tidegate.bench.payload import Payload
from tidegate.bench.volley import ask_all

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answered(data: bytes, *, ended: bool = True) -> Answer | None:
    head = Head.parse(data)
    return None if head is None else complete(head, data, ended=ended)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a\r\nlo\r\n0\r\n\r\n",
         b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)  # fmt: skip
def test_a_body_ends_where_its_framing_says(data: bytes, body: bytes) -> None:
    assert answered(data) == Answer(int(data[9:12]), body, len(body))


def test_half_an_answer_is_none_yet() -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n"
    found = [answered(whole[:at], ended=False) for at in range(len(whole) - 3)]
    assert found == [None] * len(found)


def test_a_cut_answer_is_an_error() -> None:
    with pytest.raises(BenchError, match="cut"):
        answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")


def test_other_protocols_are_told() -> None:
    with pytest.raises(BenchError, match="HTTP"):
        answered(b"SSH-2.0-OpenSSH\r\n\r\n")


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:9292", "https://x", "http://", "http://x:port", "http://x/?a=b", "http://["]
)  # fmt: skip
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(BenchError, match="write it like"):
        Target.parse(url)


def test_a_token_cannot_break_out_of_its_header() -> None:
    with pytest.raises(BenchError, match="token"):
        Target.parse("http://x", "a\r\nb: c")


def test_a_request_carries_the_prefix_and_the_token() -> None:
    message = Target.parse("http://x:1/image/", "secret").message("POST", "/v2/images", {"a": 1})
    head, _, body = message.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /image/v2/images HTTP/1.1",
        b"Host: x:1",
        b"X-Auth-Token: secret",
        b"Content-Length: 8",
        b"Content-Type: application/json",
    ]
    assert body == b'{"a": 1}'


@contextmanager
def server(*answers: bytes, once: bool = False) -> Iterator[Target]:
    """Answers each request's head with the next of the answers; ``once``: on a connection each."""
    waiting = list(answers)

    def serve() -> None:
        while waiting:
            connection, _ = listener.accept()
            with connection:
                while waiting and connection.recv(65536):
                    connection.sendall(waiting.pop(0))
                    if once:
                        break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield Target.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()


def test_a_download_is_counted_to_its_end() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000)
    with server(body, OK) as target, Connection(target) as connection:
        assert connection.download("/x") == Answer(200, b"", 3_000_000)
        assert connection.ask("GET", "/y").body == b"ok"


def test_a_cut_download_is_an_error() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(2_000_000)
    with (
        server(body, once=True) as target,
        Connection(target) as connection,
        pytest.raises(BenchError, match="before the end"),
    ):
        connection.download("/x")


def test_many_are_asked_each_once() -> None:
    closing = OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    found: list[tuple[int, bytes]] = []
    with server(OK, closing, OK) as target:
        messages = [target.message("GET", f"/{number}") for number in range(3)]
        # a connection that was announced to close is not used again
        seconds = ask_all(target, messages, 1, lambda number, answer: found.append(
            (number, answer.body)))  # fmt: skip
    assert found == [(0, b"ok"), (1, b"ok"), (2, b"ok")]
    assert len(seconds) == 3


def test_a_server_that_hangs_up_is_an_error() -> None:
    with server(b"HTTP/1.1 200", once=True) as target, pytest.raises(BenchError, match="closed"):
        ask_all(target, [target.message("GET", "/")], 1, lambda number, answer: None)


def test_a_payload_is_the_same_again_and_has_no_zeros() -> None:
    one, two = Payload(3 * 2**20), Payload(3 * 2**20)
    assert one.md5(2**20, 5000) == two.md5(2**20, 5000)
    assert one.md5(2**20, 5000) != one.md5(0, 5000)
    assert b"".join(one.views(0, 2**20)).count(0) < 2**20 / 200


def test_a_payload_goes_round() -> None:
    payload = Payload(2**20)
    tail, head = payload.views(2**20 - 3, 10)
    assert (len(tail), len(head)) == (3, 7)
    assert head == payload.views(0, 7)[0]
