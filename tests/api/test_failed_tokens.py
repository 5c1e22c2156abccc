"""Failed tokens over HTTP: whose they are, what is answered, and who is let in all the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.gateway import Answer, Gateway, running
from tests.kit.keystone_fake import PASSWORD, FakeKeystone, fake_keystone, token_of
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers, issue

MOST = 3


@pytest.fixture
async def callers(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Callers]:
    """Of a gateway that trusts this host as its proxy."""
    file = tmp_path / "tokens.toml"
    headers = {"owner": issue(file, "owner", "p1", "member")}
    auth = {"mode": "tokens", "tokens_file": str(file), "failed_tokens": MOST}
    server = {"proxies": ["127.0.0.1", "10.0.0.0/8"]}
    async with running(store, tmp_path, auth=auth, server=server) as gate:
        yield Callers(gate, headers)


@pytest.fixture
async def fake() -> AsyncIterator[FakeKeystone]:
    async with fake_keystone() as found:
        for name in ("good", "new"):
            found.tokens[name] = token_of()
        yield found


@pytest.fixture
async def gate(fake: FakeKeystone, store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    keystone = {"url": fake.url, "username": "tidegate", "password": PASSWORD, "timeout": "2s"}
    auth = {"mode": "keystone", "keystone": keystone, "failed_tokens": MOST}
    async with running(store, tmp_path, auth=auth) as found:
        yield found


async def ask(gate: Gateway, token: str, **more: str) -> Answer:
    return await gate.ask("GET", "/v2/images", headers={"X-Auth-Token": token, **more})


async def statuses(gate: Gateway, *tokens: str, **more: str) -> list[int]:
    return [(await ask(gate, token, **more)).status for token in tokens]


class TestTokens:
    async def test_sec_48_past_its_share_an_address_is_429(self, callers: Callers) -> None:
        assert await statuses(callers.gate, *["bad"] * MOST) == [401] * MOST
        answer = await ask(callers.gate, "bad")
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 60 / MOST
        assert "WWW-Authenticate" not in answer.headers

    async def test_sec_48_a_good_token_is_let_in_all_the_same(self, callers: Callers) -> None:
        await statuses(callers.gate, *["bad"] * (MOST + 1))
        assert (await callers.ask("owner", "GET", "/v2/images")).status == 200

    async def test_sec_48_who_sends_none_has_not_failed(self, callers: Callers) -> None:
        for _ in range(MOST + 1):
            assert (await callers.gate.ask("GET", "/v2/images")).status == 401

    async def test_sec_48_data_with_a_failed_token_is_not_read(
        self, callers: Callers, store: FaultyStore
    ) -> None:
        await statuses(callers.gate, *["bad"] * MOST)
        image_id = await callers.queued()
        answer = await callers.gate.put(image_id, b"x" * 100_000, {"X-Auth-Token": "bad"})
        assert answer.status == 429
        assert store.calls == []
        shown = await callers.ask("owner", "GET", f"/v2/images/{image_id}")
        assert shown.json["status"] == "queued"

    @pytest.mark.parametrize(
        ("way", "same", "other"),
        [
            # what a client wrote itself stands before what the proxy added
            (
                "X-Forwarded-For",
                ["192.0.2.1", "198.51.100.7, 192.0.2.1", "192.0.2.1, 10.1.1.1", "192.0.2.1:4711"],
                "192.0.2.1, 192.0.2.9",
            ),
            (
                "Forwarded",
                ["for=192.0.2.1", "for=8.8.8.8, for=192.0.2.1", "for=192.0.2.1, for=10.1.1.1",
                 'for="192.0.2.1:4711";proto=https'],
                "for=192.0.2.9",
            ),
            (
                "X-Forwarded-For",
                ["2001:db8::1", "[2001:db8::2]", "[2001:db8::3]:80", "x, 2001:db8::4"],
                "2001:db8:1::1",
            ),
            ("X-Forwarded-For", ["unknown", "192.0.2.1, unknown", "", ",,"], "192.0.2.1"),
        ],
        ids=["for", "forwarded", "ipv6", "nobody"],
    )  # fmt: skip
    async def test_sec_48_behind_a_trusted_proxy_it_is_the_clients_address(
        self, callers: Callers, way: str, same: list[str], other: str
    ) -> None:
        for value in same[:MOST]:
            assert await statuses(callers.gate, "bad", **{way: value}) == [401]
        assert await statuses(callers.gate, "bad", **{way: same[MOST]}) == [429]
        assert await statuses(callers.gate, "bad", **{way: other}) == [401]

    async def test_sec_48_a_forged_forwarded_does_not_help_beside_the_proxys_own(
        self, callers: Callers
    ) -> None:
        for number in range(MOST + 1):
            forged = {"X-Forwarded-For": "192.0.2.1", "Forwarded": f"for=198.51.100.{number}"}
            found = await statuses(callers.gate, "bad", **forged)
        assert found == [429]


async def test_sec_48_what_others_than_proxies_say_is_not_believed(
    store: FaultyStore, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.toml"
    issue(file, "owner", "p1", "member")
    auth = {"mode": "tokens", "tokens_file": str(file), "failed_tokens": MOST}
    async with running(store, tmp_path, auth=auth) as gate:
        for number in range(MOST):
            forged = {"X-Forwarded-For": f"198.51.100.{number}"}
            assert await statuses(gate, "bad", **forged) == [401]
        assert await statuses(gate, "bad", **{"X-Forwarded-For": "198.51.100.99"}) == [429]


class TestKeystone:
    async def test_sec_48_keystone_is_asked_no_more_for_a_flood(
        self, gate: Gateway, fake: FakeKeystone
    ) -> None:
        found = await statuses(gate, *[f"bad-{number}" for number in range(2 * MOST)])
        assert found == [401] * MOST + [429] * MOST
        assert len(fake.asked) == MOST

    async def test_sec_48_nor_where_it_comes_all_at_once(
        self, gate: Gateway, fake: FakeKeystone
    ) -> None:
        fake.open.clear()
        flood = [asyncio.ensure_future(ask(gate, f"bad-{number}")) for number in range(30)]
        refused = []
        for answer in asyncio.as_completed(flood):
            refused.append((await answer).status)
            if len(refused) == 30 - MOST:
                fake.open.set()
        assert sorted(refused) == [401] * MOST + [429] * (30 - MOST)
        assert len(fake.asked) <= MOST

    async def test_sec_48_a_token_that_is_known_is_let_in_all_the_same(self, gate: Gateway) -> None:
        assert await statuses(gate, "good") == [200]
        await statuses(gate, *[f"bad-{number}" for number in range(MOST + 1)])
        assert await statuses(gate, "good", "good") == [200, 200]

    async def test_sec_48_good_ones_cost_nothing(self, gate: Gateway, fake: FakeKeystone) -> None:
        for number in range(2 * MOST):
            fake.tokens[f"good-{number}"] = token_of()
            assert await statuses(gate, f"good-{number}") == [200]

    async def test_sec_48_many_who_wait_for_one_answer_are_let_in_by_it(
        self, gate: Gateway, fake: FakeKeystone
    ) -> None:
        fake.open.clear()
        asked = [asyncio.ensure_future(ask(gate, "new")) for _ in range(3 * MOST)]
        while not fake.logins:
            await asyncio.sleep(0)
        fake.open.set()
        assert [(await answer).status for answer in asked] == [200] * (3 * MOST)

    async def test_sec_48_one_bad_token_again_and_again_costs_nobody_anything(
        self, gate: Gateway
    ) -> None:
        assert await statuses(gate, *["bad"] * (3 * MOST)) == [401] * (3 * MOST)
        assert await statuses(gate, "new") == [200]

    async def test_sec_48_a_service_token_that_fails_counts_as_well(
        self, gate: Gateway, fake: FakeKeystone
    ) -> None:
        found = [
            (await ask(gate, "good", **{"X-Service-Token": f"bad-{number}"})).status
            for number in range(MOST + 1)
        ]
        assert found[-1] == 429

    async def test_sec_48_a_keystone_that_is_down_is_nobodys_failure(
        self, gate: Gateway, fake: FakeKeystone
    ) -> None:
        fake.status = 500
        assert set(await statuses(gate, *["new"] * (2 * MOST))) == {503}
        fake.status = None
        assert await statuses(gate, "new") == [200]
