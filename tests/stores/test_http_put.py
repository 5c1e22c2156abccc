"""One PUT to an address that the operator allowed: whole, or it was none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.kit.keystone_fake import self_signed
from tests.kit.sources import pattern
from tests.kit.targets import Target, taking

from tidegate.domain.errors import TargetBroke, TargetRefused
from tidegate.stores.http_put import HttpPut

MIB = 2**20
BODY = pattern(3 * MIB + 5)


@asynccontextmanager
async def putting(timeout: float = 20) -> AsyncIterator[HttpPut]:
    found = HttpPut(timeout=timeout)
    await found.open()
    try:
        yield found
    finally:
        await found.close()


async def blocks(data: bytes = BODY, *, breaks: Exception | None = None) -> AsyncIterator[bytes]:
    for at in range(0, len(data), MIB):
        yield data[at : at + MIB]
    if breaks is not None:
        raise breaks


async def put(target: Target, data: bytes = BODY, timeout: float = 20) -> None:
    async with putting(timeout) as sender:
        await sender.put(target.url + "a.raw", len(data), blocks(data))


@pytest.mark.parametrize("data", [BODY, b"x", b""], ids=["blocks", "one byte", "empty"])
async def test_a_body_arrives_whole_with_its_length(data: bytes) -> None:
    async with taking() as target:
        await put(target, data)
    assert target.files == {"/images/a.raw": data}
    ((method, path, headers),) = target.requests
    assert (method, path) == ("PUT", "/images/a.raw")
    assert headers["content-length"] == str(len(data))
    assert headers["content-type"] == "application/octet-stream"
    assert "transfer-encoding" not in headers


async def test_nothing_of_ours_goes_along() -> None:
    async with taking() as target:
        await put(target, b"x")
    ((_, _, headers),) = target.requests
    assert set(headers) == {
        "host", "user-agent", "content-type", "content-length", "accept", "accept-encoding",
        "connection",
    }  # fmt: skip


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with taking() as target, taking() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await put(target, b"x")
    assert proxy.requests == []


@pytest.mark.parametrize("status", [200, 201, 204])
async def test_any_success_is_one(status: int) -> None:
    async with taking(Target(answers=[status])) as target:
        await put(target)
    assert target.files["/images/a.raw"] == BODY


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with taking() as other, taking(Target([status], location=other.url)) as target:
        with pytest.raises(TargetRefused, match=f"{status}; redirects are not followed"):
            await put(target)
    assert other.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413])
async def test_a_refusal_is_final_and_told_by_its_status_alone(status: int) -> None:
    async with taking(Target([status])) as target:
        with pytest.raises(TargetRefused) as refused:
            await put(target)
    assert refused.value.message == f"The target answered {status}."


async def test_a_refusal_before_all_was_sent_is_one_as_well() -> None:
    async with taking(Target([403], early=True)) as target:
        with pytest.raises(TargetRefused, match="403"):
            await put(target, pattern(64 * MIB))


@pytest.mark.parametrize("status", [500, 502, 503, 507])
async def test_a_failure_may_pass(status: int) -> None:
    async with taking(Target([status])) as target:
        with pytest.raises(TargetBroke) as broke:
            await put(target)
    assert not isinstance(broke.value, TargetRefused)
    assert broke.value.message == f"The target answered {status}."


async def test_a_target_that_drops_is_not_tried_again_here() -> None:
    async with taking(Target([0], after=MIB)) as target:
        with pytest.raises(TargetBroke, match=r"The target broke off\."):
            await put(target)
    assert len(target.requests) == 1
    assert target.files == {}


async def test_a_success_before_the_end_is_none() -> None:
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield BODY[:MIB]
        await go_on.wait()

    async with taking(Target(early=True)) as target, putting() as sender:
        with pytest.raises(TargetBroke, match="before it had all"):
            await sender.put(target.url + "a", len(BODY), slowly())


async def test_a_source_that_ends_early_makes_no_request_whole() -> None:
    async with taking() as target, putting() as sender:
        with pytest.raises(TargetBroke):
            await sender.put(target.url + "a", len(BODY), blocks(breaks=ValueError()))
    assert target.files == {}


async def test_a_target_that_takes_nothing_has_an_end() -> None:
    held = Target(pause=asyncio.Event(), after=1)
    async with taking(held) as target:
        with pytest.raises(TargetBroke, match="takes too long"):
            await put(target, pattern(64 * MIB), timeout=0.5)
        held.pause = None


async def test_a_target_that_does_not_answer_has_an_end() -> None:
    held = Target(pause=asyncio.Event(), after=1)
    async with taking(held) as target:
        with pytest.raises(TargetBroke, match="takes too long"):
            await put(target, b"x", timeout=0.5)


async def test_a_slow_source_costs_the_target_no_time() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(0.6)
        yield b"y"

    async with taking() as target, putting(0.3) as sender:
        await sender.put(target.url + "a", 2, slowly())
    assert target.files["/images/a"] == b"xy"


async def test_a_certificate_must_be_of_a_known_authority(tmp_path: Path) -> None:
    async with taking(certificate=self_signed(tmp_path / "certificate.pem")) as target:
        with pytest.raises(TargetBroke, match="certificate"):
            await put(target)
    assert target.requests == []


async def test_nobody_at_the_address_is_told_without_it() -> None:
    async with taking() as target:
        pass
    with pytest.raises(TargetBroke) as broke:
        await put(target)
    assert broke.value.message == "The target cannot be reached."
