"""Callers by Keystone's tokens, before an identity service that answers as told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict
from structlog.testing import capture_logs
from tests.kit.keystone_fake import PASSWORD, FakeKeystone, fake_keystone, self_signed, token_of

from tidegate.domain.errors import IdentityDown, Unauthenticated
from tidegate.domain.policy import Caller
from tidegate.identity import keystone as module
from tidegate.identity.keystone import Keystone
from tidegate.identity.keystone_api import _Answer
from tidegate.settings import SettingsError

GOOD = "gAAAAgood-token"


@pytest.fixture
async def fake() -> AsyncIterator[FakeKeystone]:
    async with fake_keystone() as found:
        found.tokens[GOOD] = token_of()
        yield found


class Opened:
    """Opens identities and closes them again; ``now`` is their clock."""

    def __init__(self, fake: FakeKeystone) -> None:
        self._fake = fake
        self.now = 0.0
        self._made: list[Keystone] = []

    async def __call__(self, **settings: Any) -> Keystone:
        made = Keystone(self._fake.settings(**settings), clock=lambda: self.now)
        await made.open()
        self._made.append(made)
        return made

    async def close(self) -> None:
        for one in self._made:
            await one.close()


@pytest.fixture
async def opened(fake: FakeKeystone) -> AsyncIterator[Opened]:
    found = Opened(fake)
    yield found
    await found.close()


@pytest.fixture
async def identity(opened: Opened) -> Keystone:
    return await opened()


async def who(
    identity: Keystone,
    token: str = GOOD,
    service: str | None = None,
    *,
    method: str = "GET",
    path: str = "/v2/images",
    more: tuple[tuple[str, str], ...] = (),
) -> Caller:
    headers = CIMultiDict([("X-Auth-Token", token), *more])
    if service is not None:
        headers.add("X-Service-Token", service)
    return await identity.caller(headers, method, path)


async def refuses(
    identity: Keystone, token: str = GOOD, service: str | None = None, **how: Any
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await who(identity, token, service, **how)
    # the same for every reason
    assert refused.value.message == "The request you have made requires authentication."
    assert refused.value.challenge.startswith('Keystone uri="http://')


async def down(identity: Keystone, token: str = GOOD) -> str:
    """What the log says of it."""
    with capture_logs() as logs, pytest.raises(IdentityDown) as refused:
        await who(identity, token)
    assert refused.value.message == "The identity service does not answer now; try again later."
    assert token not in str(logs)
    assert PASSWORD not in str(logs)
    assert [entry["log_level"] for entry in logs] in ([], ["error"])
    return str(logs[0]["reason"]) if logs else ""


# who calls


async def test_a_token_says_who_calls(identity: Keystone) -> None:
    found = await who(identity)
    assert (found.project, found.user, found.roles) == ("p1", "u1", {"member", "reader"})
    assert (found.project_domain, found.user_domain) == ("default", "default")
    assert found.service_roles == frozenset()
    assert not found.is_admin
    assert found.token is not None
    assert len(found.token) == 8
    assert found.token not in GOOD


async def test_a_trusts_roles_and_members_we_do_not_know_are_taken(
    fake: FakeKeystone, identity: Keystone
) -> None:
    fake.tokens["trust"] = {
        **token_of(is_domain=None, roles=[{"id": "r", "name": "reader", "options": {}}]),
        "OS-TRUST:trust": {"id": "t", "impersonation": True},
        "is_admin_project": True,
    }
    assert (await who(identity, "trust")).roles == {"reader"}


async def test_who_has_no_scope_has_no_project_and_no_roles(
    fake: FakeKeystone, identity: Keystone
) -> None:
    fake.tokens["unscoped"] = token_of(project=None, roles=None, is_domain=None)
    found = await who(identity, "unscoped")
    assert (found.project, found.roles, found.user) == (None, frozenset(), "u1")


@pytest.mark.parametrize(
    "scope", [{"system": {"all": True}}, {"domain": {"id": "default", "name": "Default"}}]
)
async def test_an_administrator_of_a_system_or_a_domain_is_none_of_images(
    fake: FakeKeystone, identity: Keystone, scope: dict[str, Any]
) -> None:
    fake.tokens["wide"] = token_of(project=None, roles=[{"id": "r", "name": "admin"}], **scope)
    found = await who(identity, "wide")
    assert not found.is_admin
    assert (found.project, found.roles) == (None, frozenset())


async def test_what_a_client_says_of_itself_counts_for_nothing(identity: Keystone) -> None:
    more = tuple(
        (name, value)
        for name, value in {
            "X-Roles": "admin", "X-Role": "admin", "X-Project-Id": "p2", "X-Tenant-Id": "p2",
            "X-Tenant": "p2", "X-User-Id": "root", "X-User": "root", "X-Identity-Status":
            "Confirmed", "X-Service-Identity-Status": "Confirmed", "X-Service-Roles": "service",
            "X-Is-Admin-Project": "True", "OpenStack-System-Scope": "all", "X-Domain-Id": "d",
            "X-Service-Catalog": "[]",
        }.items()
    )  # fmt: skip
    assert await who(identity, more=more) == await who(identity)
    await refuses(identity, "bad", more=more)
    with pytest.raises(Unauthenticated):
        await identity.caller(CIMultiDict(more))


# who does not


@pytest.mark.parametrize(
    "token", ["", " ", "ü", "\udce9\udcff", "a b", "a\tb", "x" * 8193, "unknown", GOOD + "x"]
)
async def test_what_is_no_token_is_refused(identity: Keystone, token: str) -> None:
    await refuses(identity, token)


@pytest.mark.parametrize("token", ["", "ü", "a b", "x" * 8193])
async def test_what_cannot_be_a_token_is_not_asked_about(
    fake: FakeKeystone, identity: Keystone, token: str
) -> None:
    await refuses(identity, token)
    assert fake.asked == []


async def test_blanks_around_a_token_mean_nothing(identity: Keystone) -> None:
    assert (await who(identity, f"  {GOOD} ")).user == "u1"


async def test_two_tokens_are_none(identity: Keystone) -> None:
    await refuses(identity, more=(("X-Auth-Token", GOOD),))
    await refuses(identity, more=(("X-Service-Token", GOOD), ("X-Service-Token", GOOD)))


async def test_who_is_refused_is_told_the_public_address(opened: Opened) -> None:
    identity = await opened(public_url="https://keystone.example/v3/")
    with pytest.raises(Unauthenticated) as refused:
        await who(identity, "bad")
    assert refused.value.challenge == 'Keystone uri="https://keystone.example/v3"'


async def test_a_token_that_is_over_by_our_clock_is_refused(
    fake: FakeKeystone, identity: Keystone, monkeypatch: pytest.MonkeyPatch
) -> None:
    await who(identity)
    end = datetime.fromisoformat(fake.tokens[GOOD]["expires_at"])
    monkeypatch.setattr("tidegate.identity.keystone.time.time", end.timestamp)
    await refuses(identity)


# how often Keystone is asked


async def test_one_answer_is_for_many_requests(fake: FakeKeystone, identity: Keystone) -> None:
    found = await asyncio.gather(*(who(identity) for _ in range(50)))
    assert len({id(one) for one in found}) == 1
    await who(identity)
    assert fake.asked == [(GOOD, "nocatalog")]
    assert len(fake.logins) == 1


async def test_a_refusal_is_remembered_too(fake: FakeKeystone, identity: Keystone) -> None:
    for _ in range(3):
        await refuses(identity, "bad")
    assert len(fake.asked) == 1


async def test_many_new_tokens_need_one_login(fake: FakeKeystone, identity: Keystone) -> None:
    fake.tokens.update({f"t{number}": token_of(f"u{number}") for number in range(40)})
    found = await asyncio.gather(*(who(identity, f"t{number}") for number in range(40)))
    assert [one.user for one in found] == [f"u{number}" for number in range(40)]
    assert len(fake.logins) == 1


async def test_an_answer_is_believed_for_the_set_time(fake: FakeKeystone, opened: Opened) -> None:
    identity = await opened(cache="60s", refusal_cache="5s")
    await who(identity)
    del fake.tokens[GOOD]
    opened.now = 59
    await who(identity)
    opened.now = 60
    await refuses(identity)
    fake.tokens[GOOD] = token_of()
    opened.now = 64
    await refuses(identity)
    opened.now = 65
    await who(identity)


async def test_nothing_is_believed_longer_than_the_token_lasts(
    fake: FakeKeystone, opened: Opened
) -> None:
    identity = await opened(cache="1h")
    fake.tokens["brief"] = token_of(lasts=100)
    await who(identity, "brief")
    opened.now = 101
    await who(identity, "brief")
    assert len(fake.asked) == 2


async def test_without_a_cache_a_revocation_counts_at_once(
    fake: FakeKeystone, opened: Opened
) -> None:
    identity = await opened(cache="0s", refusal_cache="0s")
    await who(identity)
    del fake.tokens[GOOD]
    await refuses(identity)
    fake.tokens[GOOD] = token_of()
    await who(identity)


async def test_no_more_tokens_are_remembered_than_allowed(
    fake: FakeKeystone, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    identity = await opened()
    fake.tokens.update({name: token_of(name) for name in "abc"})
    for name in "abca":
        assert (await who(identity, name)).user == name
    assert [token for token, _ in fake.asked] == ["a", "b", "c", "a"]


async def test_no_token_is_kept_in_clear(identity: Keystone) -> None:
    await who(identity)
    await refuses(identity, "gAAAAbad")
    kept = f"{list(identity._known.items())}{list(identity._refused)}"
    assert len(kept) > 100
    assert GOOD not in kept
    assert "gAAAAbad" not in kept


async def test_a_client_that_leaves_takes_no_answer_from_the_others(
    fake: FakeKeystone, identity: Keystone
) -> None:
    fake.open.clear()
    first, second = asyncio.ensure_future(who(identity)), asyncio.ensure_future(who(identity))
    while not fake.logins:
        await asyncio.sleep(0.01)
    first.cancel()
    fake.open.set()
    assert (await second).user == "u1"


# our own account


async def test_the_login_is_for_our_project(fake: FakeKeystone, opened: Opened) -> None:
    await who(await opened(project_name="services", user_domain_name="Ops"))
    assert fake.logins == [
        {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {
                        "user": {
                            "name": "tidegate",
                            "domain": {"name": "Ops"},
                            "password": PASSWORD,
                        }
                    },
                },
                "scope": {"project": {"name": "services", "domain": {"id": "default"}}},
            }
        }
    ]


async def test_an_application_credential_names_no_scope(fake: FakeKeystone, opened: Opened) -> None:
    await who(
        await opened(
            username="", password="", application_credential_id="a1",
            application_credential_secret="s",
        )
    )  # fmt: skip
    identity = {
        "methods": ["application_credential"],
        "application_credential": {"id": "a1", "secret": "s"},
    }
    assert fake.logins == [{"auth": {"identity": identity}}]


async def test_the_password_may_lie_in_a_file(
    fake: FakeKeystone, opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text(f"{PASSWORD}\n", encoding="utf-8")
    await who(await opened(password="", password_file=path))
    path.unlink()
    with pytest.raises(SettingsError, match=r"^auth.keystone.password_file: cannot read "):
        await opened(password="", password_file=path)


async def test_sec_64_a_password_file_that_is_open_to_others_is_refused(
    opened: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD, encoding="utf-8")
    path.chmod(0o604)
    with pytest.raises(SettingsError, match="chmod 600") as refused:
        await opened(password="", password_file=path)
    assert PASSWORD not in str(refused.value)


async def test_a_file_of_authorities_must_be_one(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^auth.keystone.ca_file: cannot use "):
        await opened(ca_file=tmp_path / "none")


async def test_our_token_is_renewed_before_it_ends(fake: FakeKeystone, identity: Keystone) -> None:
    fake.own_lasts = 50  # less than what must be left
    await identity.once()
    fake.own_lasts = 3600
    await who(identity)
    await identity.once()
    assert len(fake.logins) == 2


async def test_our_token_that_is_refused_is_renewed_once(
    fake: FakeKeystone, identity: Keystone
) -> None:
    await identity.once()
    fake.own = "another"  # as if ours had been revoked
    assert (await who(identity)).user == "u1"
    assert len(fake.logins) == 2


# Keystone is down


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "it refuses the token of our account"),
        (403, "our account lacks the role service or admin"),
        (429, "it answers 429"),
        (500, "it answers 500"),
        (503, "it answers 503"),
        (300, "it answers 300"),
    ],
)
async def test_an_answer_that_says_nothing_of_the_token_is_no_refusal(
    fake: FakeKeystone, identity: Keystone, status: int, reason: str
) -> None:
    fake.status = status
    assert await down(identity) == reason
    assert await down(identity) == ""  # told once
    fake.status = None
    with capture_logs() as logs:
        await who(identity)
    assert [entry["event"] for entry in logs] == ["keystone answers again"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"[]", b"{}", b'{"token": {}}', b'{"token": {"user": {"id": "u"}}}',
        b'{"token": {"user": {"id": "u"}, "expires_at": "soon"}}', b"\xff\xfe",
    ],
)  # fmt: skip
async def test_an_answer_that_cannot_be_read_is_no_refusal(
    fake: FakeKeystone, identity: Keystone, body: bytes
) -> None:
    await identity.once()
    fake.body = body
    assert "cannot be read" in await down(identity)


async def test_a_wrong_password_of_ours_is_told_in_the_log(opened: Opened) -> None:
    identity = await opened(password="wrong")
    reason = await down(identity)
    assert reason == "it refuses the name, secret or project of our account"


async def test_an_answer_is_not_waited_for_for_ever(fake: FakeKeystone, opened: Opened) -> None:
    identity = await opened(timeout="200ms")
    fake.open.clear()
    begun = asyncio.get_running_loop().time()
    with pytest.raises(IdentityDown):
        await who(identity)
    outcomes = await asyncio.gather(*(who(identity) for _ in range(20)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {IdentityDown}
    assert asyncio.get_running_loop().time() - begun < 2


async def test_known_callers_go_on_while_it_is_down(fake: FakeKeystone, identity: Keystone) -> None:
    await who(identity)
    fake.status = 500
    assert (await who(identity)).user == "u1"
    with pytest.raises(IdentityDown):
        await who(identity, "new")


async def test_a_failure_is_not_remembered(fake: FakeKeystone, identity: Keystone) -> None:
    fake.status = 500
    await down(identity)
    fake.status = None
    assert (await who(identity)).user == "u1"


async def test_a_certificate_must_be_of_a_known_authority(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path / "certificate.pem")
    async with fake_keystone(certificate) as secure:
        secure.tokens[GOOD] = token_of()
        opened = Opened(secure)
        assert "Certificate" in await down(await opened())
        assert secure.logins == []
        assert (await who(await opened(ca_file=certificate))).user == "u1"
        with capture_logs() as logs:
            careless = await opened(insecure=True)
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert (await who(careless)).user == "u1"
        await opened.close()


async def test_tokens_in_clear_to_another_host_are_told(opened: Opened) -> None:
    with capture_logs() as logs:
        await opened(url="http://keystone.example/v3")
    assert [entry["event"] for entry in logs] == ["tokens go to keystone without TLS"]


async def test_the_version_may_be_left_out_of_the_address(
    fake: FakeKeystone, opened: Opened
) -> None:
    assert (await who(await opened(url=fake.url.removesuffix("/v3")))).user == "u1"


async def test_nobody_listens(opened: Opened) -> None:
    identity = await opened(url="http://127.0.0.1:1/v3")
    assert (await down(identity)).startswith("no connection")
    await identity.once()  # which says nothing more


# application credentials with access rules


def with_rules(*rules: tuple[str, str, str]) -> dict[str, Any]:
    listed = [{"id": "x", "service": s, "method": m, "path": p} for s, m, p in rules]
    credential = {"id": "a", "name": "a", "restricted": True, "access_rules": listed}
    return token_of(methods=["application_credential"], application_credential=credential)


async def test_access_rules_are_enforced(fake: FakeKeystone, identity: Keystone) -> None:
    fake.tokens["ruled"] = with_rules(("image", "GET", "/v2/images/*"))
    assert (await who(identity, "ruled", path="/v2/images/abc")).user == "u1"
    await refuses(identity, "ruled", path="/v2/images")
    await refuses(identity, "ruled", path="/v2/images/abc", method="DELETE")


async def test_no_rules_are_no_limit_and_an_empty_list_allows_nothing(
    fake: FakeKeystone, identity: Keystone
) -> None:
    fake.tokens["free"] = token_of(application_credential={"id": "a", "name": "a"})
    fake.tokens["none"] = with_rules()
    assert (await who(identity, "free")).user == "u1"
    await refuses(identity, "none")


async def test_only_a_service_is_not_bound_by_them(fake: FakeKeystone, identity: Keystone) -> None:
    fake.tokens["ruled"] = with_rules()
    fake.tokens["nova"] = token_of("nova", roles=[{"id": "r", "name": "Service"}])
    await refuses(identity, "ruled", "anything")
    await refuses(identity, "ruled", GOOD)
    assert (await who(identity, "ruled", "nova")).user == "u1"


# services


async def test_a_services_roles_are_not_the_callers(fake: FakeKeystone, identity: Keystone) -> None:
    roles = [{"id": "r", "name": "service"}, {"id": "r", "name": "admin"}]
    fake.tokens["nova"] = token_of("nova", roles=roles)
    found = await who(identity, GOOD, "nova")
    assert found.roles == {"member", "reader"}
    assert found.service_roles == {"service", "admin"}
    assert not found.is_admin
    assert (await who(identity)).service_roles == frozenset()


async def test_with_a_service_an_expired_token_will_do(
    fake: FakeKeystone, identity: Keystone
) -> None:
    fake.tokens["nova"] = token_of("nova", roles=[{"id": "r", "name": "service"}])
    fake.tokens["old"] = token_of("u7", lasts=-60)
    await refuses(identity, "old")
    assert (await who(identity, "old", "nova")).user == "u7"
    assert (await who(identity, "old", "nova")).user == "u7"
    assert [query for token, query in fake.asked if token == "old"] == [
        "nocatalog",
        "nocatalog&allow_expired=1",
    ]
    assert ("nova", "nocatalog") in fake.asked
    # which helps nobody else
    await refuses(identity, "old")
    await refuses(identity, "old", GOOD)
    await refuses(identity, "old", "old")


async def test_a_bad_service_token_counts_as_none_and_is_told(
    fake: FakeKeystone, identity: Keystone
) -> None:
    with capture_logs() as logs:
        assert (await who(identity, GOOD, "bad-service")).service_roles == frozenset()
    assert [entry["event"] for entry in logs] == ["service token not counted"]
    assert "bad-service" not in str(logs)
    assert (await who(identity, GOOD, "ü")).user == "u1"


async def test_which_roles_are_a_services_can_be_set(fake: FakeKeystone, opened: Opened) -> None:
    identity = await opened(service_roles=["glance_users"])
    fake.tokens["nova"] = token_of("nova", roles=[{"id": "r", "name": "service"}])
    fake.tokens["own"] = token_of("own", roles=[{"id": "r", "name": "Glance_Users"}])
    assert (await who(identity, GOOD, "nova")).service_roles == frozenset()
    assert (await who(identity, GOOD, "own")).service_roles == {"glance_users"}


def test_times_are_read_with_and_without_a_zone() -> None:
    for text in ("2030-01-01T00:00:00.0Z", "2030-01-01T00:00:00", "2030-01-01T01:00:00+01:00"):
        found = _Answer.model_validate({"token": {"user": {"id": "u"}, "expires_at": text}})
        assert found.token.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
