"""Access rules of application credentials: which requests they allow."""

import time

import pytest

from tidegate.identity.access import LONGEST_PATH, MOST_RULES, AccessRule, allowed, matches


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/v2/images", "/v2/images", True),
        ("/v2/images", "/v2/images/", False),
        ("/v2/images", "/v2/imagesX", False),
        ("/v2/images/*", "/v2/images/abc", True),
        ("/v2/images/*", "/v2/images/", False),
        ("/v2/images/*", "/v2/images/abc/file", False),
        ("/v2/images/{image_id}", "/v2/images/abc", True),
        ("/v2/images/{image_id}/file", "/v2/images/abc/file", True),
        ("/v2/images/{image_id}/file", "/v2/images/a/b/file", False),
        ("/v2/images/a*c", "/v2/images/abbc", True),
        ("/v2/**", "/v2/images/abc/file", True),
        ("/v2/**", "/v2/", True),
        ("**", "", True),
        ("/**/file", "/v2/images/abc/file", True),
        ("/**/file", "/v2/images/abc/files", False),
        # letters mean themselves
        ("/v2/image.", "/v2/images", False),
        ("/v2/(x|images)", "/v2/images", False),
        ("/v2/{images", "/v2/{images", True),
        ("/v2/{images", "/v2/x", False),
    ],
)
def test_a_pattern(pattern: str, path: str, fits: bool) -> None:
    assert matches(pattern, path) is fits


RULES = [AccessRule("image", "GET", "/v2/images/*"), AccessRule("compute", "POST", "/v2/images")]


@pytest.mark.parametrize(
    ("method", "path", "good"),
    [
        ("GET", "/v2/images/abc", True),
        ("HEAD", "/v2/images/abc", False),
        ("DELETE", "/v2/images/abc", False),
        ("GET", "/v2/images", False),
        ("POST", "/v2/images", False),  # that was another service's
    ],
)
def test_service_method_and_path_must_all_fit(method: str, path: str, good: bool) -> None:
    assert allowed(RULES, "image", method, path) is good


def test_an_empty_list_allows_nothing() -> None:
    assert not allowed([], "image", "GET", "/v2/images")


def test_no_pattern_takes_long() -> None:
    rules = [AccessRule("image", "GET", "**a" * 40 + "b")] * MOST_RULES
    begun = time.process_time()
    assert not allowed(rules, "image", "GET", "/" + "a" * (LONGEST_PATH - 1))
    assert time.process_time() - begun < 2
    assert not allowed([*rules, AccessRule("image", "GET", "**")], "image", "GET", "/")
    assert not allowed([AccessRule("image", "GET", "**")], "image", "GET", "/" * 10_000)
