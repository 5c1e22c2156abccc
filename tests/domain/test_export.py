"""Where an image may be exported to."""

from typing import Any

import pytest

from tidegate.domain.errors import Forbidden, Invalid
from tidegate.domain.export import StoreTarget, UrlTarget, check_allowed, parse_url, target_of

IMAGE = {"image_id": "00000000-0000-4000-8000-000000000000"}
KEY = "Input's 'key' must be <folder>/<name>"
PATH = "may have a path of letters"
URL = "must be http:// or https://"


@pytest.mark.parametrize("key", ["a/b", "exports/ubuntu.qcow2", "A_1/x-y.tar.gz", "a/" + "x" * 64])
def test_a_key_in_a_folder_of_a_store(key: str) -> None:
    assert target_of({**IMAGE, "store": "main", "key": key}) == StoreTarget("main", key)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://h/a/b.raw", "https://h/a/b.raw"),
        ("HTTPS://Host.Example/A", "https://host.example/A"),
        ("https://h:443/a", "https://h/a"),
        ("http://h:80/a", "http://h/a"),
        ("http://h:443/a", "http://h:443/a"),
        ("http://[2001:DB8::1]:8080/a", "http://[2001:db8::1]:8080/a"),
        ("http://10.0.0.1/a~b+c@d=e,f-g_h", "http://10.0.0.1/a~b+c@d=e,f-g_h"),
    ],
)
def test_a_url_in_the_form_that_is_compared(url: str, normal: str) -> None:
    target = target_of({**IMAGE, "url": url})
    assert isinstance(target, UrlTarget)
    assert target.url == normal


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "'store'"),
        ({"store": "main"}, "'key'"),
        ({"key": "a/b"}, "'store'"),
        ({"store": 7, "key": "a/b"}, "'store'"),
        ({"store": "main", "key": ["a/b"]}, "'key'"),
        ({"store": "main", "key": "a/b", "url": "https://h/a"}, "not both"),
        ({"key": "a/b", "url": "https://h/a"}, "not both"),
        ({"url": "https://h/a", "image_properties": {}}, "image_properties"),
    ],
    ids=["nothing", "no key", "no store", "odd store", "odd key", "both", "half and url", "more"],
)
def test_exactly_one_place_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        target_of({**IMAGE, **given})


@pytest.mark.parametrize(
    "key",
    ["a", "/b", "a/", "a/b/c", "../b", "a/..", "a/.b", ".a/b", "a/b.", "a/b..c", "a/b c", "a/b\n",
     "a\n/b", "a/é", "a/b\0", "a/b+c", "a/" + "x" * 65, "x" * 65 + "/b", "a\\b", "%2e/b"],
    ids=ascii,
)  # fmt: skip
def test_a_key_that_some_store_would_not_take(key: str) -> None:
    with pytest.raises(Invalid, match=KEY):
        target_of({**IMAGE, "store": "main", "key": key})


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (7, URL), ("", URL), ("h/a", URL), ("ftp://h/a", URL), ("file:///a", URL),
        ("https://h", URL), ("https:///a", URL), ("https://u@h/a", URL), ("https://u:p@h/a", URL),
        ("https://@h/a", URL), ("https://h\\@g/a", URL), ("https://h:x/a", URL),
        ("https://h%2f/a", URL), ("https://hé/a", URL), ("https://h//a", URL),
        ("https://.h/a", URL), ("https://h./a", URL), (" https://h/a", URL),
        ("https://h/" + "a" * 2048, URL),
        ("https://h:0/a", PATH), ("https://h:65536/a", PATH),
        ("https://h/a?b", PATH), ("https://h/a?", PATH), ("https://h/a#b", PATH),
        ("https://h/a#", PATH), ("https://h/a/../b", PATH), ("https://h/a/./b", PATH),
        ("https://h/..", PATH), ("https://h/...", PATH), ("https://h/a//b", PATH),
        ("https://h/%2e%2e/b", PATH), ("https://h/a b", PATH), ("https://h/a\n", PATH),
        ("https://h/a;b", PATH), ("https://h/a\\b", PATH), ("https://h/é", PATH),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_url_that_two_servers_may_read_differently(url: object, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refused:
        target_of({**IMAGE, "url": url})
    assert "h/a" not in refused.value.message


# what the operator allows


STORES = ("main/exports", "main/two")
URLS = ("https://files.example/images/", "http://10.0.0.1:8080/")


@pytest.mark.parametrize(
    "target",
    [
        StoreTarget("main", "exports/a"),
        StoreTarget("main", "two/a"),
        parse_url("https://files.example/images/a"),
        parse_url("https://FILES.example:443/images/a/b.raw"),
        parse_url("http://10.0.0.1:8080/a"),
    ],
    ids=["folder", "another folder", "url", "the same url", "root"],
)
def test_what_is_allowed(target: StoreTarget | UrlTarget) -> None:
    check_allowed(target, stores=STORES, urls=URLS)


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        (StoreTarget("main", "other/a"), "export.stores"),
        (StoreTarget("main", "export/s"), "export.stores"),
        (StoreTarget("second", "exports/a"), "export.stores"),
        (parse_url("https://files.example/imagesx/a"), "export.urls"),
        (parse_url("https://files.example/images/"), "export.urls"),
        (parse_url("https://files.example/images/a/"), "export.urls"),
        (parse_url("https://files.example/a"), "export.urls"),
        (parse_url("http://files.example/images/a"), "export.urls"),
        (parse_url("https://files.example:444/images/a"), "export.urls"),
        (parse_url("https://files.example.org/images/a"), "export.urls"),
        (parse_url("https://x.files.example/images/a"), "export.urls"),
        (parse_url("http://10.0.0.1/a"), "export.urls"),
    ],
    ids=["folder", "half a name", "store", "longer folder", "prefix itself", "a folder", "path",
         "scheme", "port", "longer host", "host below", "default port"],
)  # fmt: skip
def test_what_is_not_allowed_is_told_by_its_rule_alone(
    target: StoreTarget | UrlTarget, rule: str
) -> None:
    with pytest.raises(Forbidden, match=rule) as refused:
        check_allowed(target, stores=STORES, urls=URLS)
    assert "example" not in refused.value.message
    assert "exports" not in refused.value.message


def test_where_nothing_is_allowed_the_answer_says_what_would_be_set() -> None:
    for target in (StoreTarget("main", "exports/a"), parse_url("https://files.example/images/a")):
        with pytest.raises(Forbidden, match=r"export\.stores or export\.urls"):
            check_allowed(target, stores=(), urls=())
