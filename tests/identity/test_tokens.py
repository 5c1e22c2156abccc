"""Callers by tokens: from a request's headers to who it is."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from multidict import CIMultiDict
from structlog.testing import capture_logs
from tests.kit.tokens import basic, bearer, issue, revoke

from tidegate.domain.errors import Unauthenticated
from tidegate.domain.policy import Caller
from tidegate.identity.tokens import Tokens, expand
from tidegate.identity.tokens_file import TokensFileError

Headers = dict[str, str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


@pytest.fixture
def good(path: Path) -> Headers:
    return issue(path, "ci-1", "p1", "Member")


@pytest.fixture
async def tokens(path: Path, good: Headers) -> Tokens:
    found = Tokens(path)
    await found.open()
    return found


async def who(tokens: Tokens, *headers: tuple[str, str] | Headers) -> Caller:
    pairs = [pair for one in headers for pair in (one.items() if isinstance(one, dict) else [one])]
    return await tokens.caller(CIMultiDict(pairs))


async def refuses(tokens: Tokens, *headers: tuple[str, str] | Headers) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await who(tokens, *headers)
    # the same for every reason
    assert refused.value.message == "The request you have made requires authentication."
    assert refused.value.challenge == 'Bearer realm="tidegate"'


async def test_a_token_says_who_calls(tokens: Tokens, good: Headers) -> None:
    found = await who(tokens, good)
    assert (found.user, found.project, found.token) == ("ci-1", "p1", "ci-1")
    assert found.roles == {"member", "reader"}
    assert not found.is_admin


@pytest.mark.parametrize("how", [bearer, basic])
async def test_it_may_come_by_authorization(tokens: Tokens, good: Headers, how: object) -> None:
    assert callable(how)
    assert (await who(tokens, how(good))).token == "ci-1"


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_a_schemes_case_means_nothing(tokens: Tokens, good: Headers, scheme: str) -> None:
    given = {"authorization": f"{scheme}  {good['X-Auth-Token']} "}
    assert (await who(tokens, given)).token == "ci-1"


async def test_blanks_around_it_mean_nothing(tokens: Tokens, good: Headers) -> None:
    assert (await who(tokens, {"x-auth-token": f"  {good['X-Auth-Token']}  "})).token == "ci-1"


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Auth-Token": ""},
        {"X-Auth-Token": " "},
        {"X-Auth-Token": "notused"},
        {"X-Auth-Token": "tg_" + "A" * 49},
        {"X-Auth-Token": "x" * 100_000},
        {"X-Auth-Token": "\udce9\udcff"},
        {"X-Auth-Token": "ü"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \udce9"},
        {"Authorization": "Basic"},
        {"Authorization": "Basic ###"},
        {"Authorization": f"Basic {coded('no colon')}"},
        {"Authorization": f"Basic {coded('ü:ü')}"},
        {"Authorization": "Digest x"},
    ],
)
async def test_what_is_no_token_is_refused(tokens: Tokens, headers: Headers) -> None:
    await refuses(tokens, headers)


async def test_a_token_with_one_other_letter_is_refused(tokens: Tokens, good: Headers) -> None:
    text = good["X-Auth-Token"]
    await refuses(tokens, {"X-Auth-Token": text[:-1]})
    await refuses(tokens, {"X-Auth-Token": text.swapcase()})


async def test_the_hash_is_no_token(tokens: Tokens, path: Path) -> None:
    text = path.read_text(encoding="utf-8").partition('sha256 = "')[2][:64]
    await refuses(tokens, {"X-Auth-Token": text})


async def test_two_tokens_are_none(tokens: Tokens, good: Headers) -> None:
    await refuses(tokens, good, good)
    await refuses(tokens, bearer(good), bearer(good))


async def test_of_two_headers_the_token_header_counts(tokens: Tokens, good: Headers) -> None:
    await refuses(tokens, {"X-Auth-Token": "bad"}, bearer(good))
    assert (await who(tokens, good, {"Authorization": "Bearer bad"})).token == "ci-1"


async def test_a_password_that_a_browser_sends_for_another_site_is_none(
    tokens: Tokens, good: Headers
) -> None:
    await refuses(tokens, basic(good), {"Origin": "https://evil.example"})
    assert (await who(tokens, bearer(good), {"Origin": "https://x.example"})).token == "ci-1"


async def test_a_token_ends_when_it_expires(
    path: Path, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    short = issue(path, "short", "p1", "reader", expires=end)
    await tokens.once()
    assert (await who(tokens, short)).token == "short"
    monkeypatch.setattr("tidegate.identity.tokens.time.time", end.timestamp)
    await refuses(tokens, short)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["admin"], {"admin", "manager", "member", "reader"}),
        (["ADMIN"], {"admin", "manager", "member", "reader"}),
        (["manager"], {"manager", "member", "reader"}),
        (["member"], {"member", "reader"}),
        (["reader"], {"reader"}),
        (["service"], {"service"}),
        (["Auditor", "reader"], {"auditor", "reader"}),
    ],
)
def test_roles_bring_others(given: list[str], found: set[str]) -> None:
    assert expand(given) == found


# the file changes


async def test_a_new_token_is_known_and_a_removed_one_is_not(
    path: Path, tokens: Tokens, good: Headers
) -> None:
    new = issue(path, "new", "p2", "admin")
    await refuses(tokens, new)
    await tokens.once()
    assert (await who(tokens, new)).project == "p2"
    revoke(path, "ci-1")
    await tokens.once()
    await refuses(tokens, good)
    assert (await who(tokens, new)).is_admin


@pytest.mark.parametrize("harm", ["text", "mode", "gone"])
async def test_a_file_that_went_bad_changes_nothing_and_is_told_once(
    path: Path, tokens: Tokens, good: Headers, harm: str
) -> None:
    match harm:
        case "text":
            path.write_text("[[token]]\nid = 5\n", encoding="utf-8")
        case "mode":
            path.chmod(0o644)
        case "gone":
            path.unlink()
    with capture_logs() as logs:
        await tokens.once()
        await tokens.once()
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert (await who(tokens, good)).token == "ci-1"
    path.unlink(missing_ok=True)
    again = issue(path, "again", "p1", "member")
    await tokens.once()
    assert (await who(tokens, again)).token == "again"
    await refuses(tokens, good)


async def test_what_has_not_changed_is_not_read_again(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise AssertionError

    monkeypatch.setattr("tidegate.identity.tokens.read", fail)
    await tokens.once()


async def test_a_bad_file_is_no_beginning(path: Path) -> None:
    with pytest.raises(TokensFileError):
        await Tokens(path).open()
