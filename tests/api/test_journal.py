"""What each request came to is told: in the log, and in the metrics."""

import re

from structlog.testing import capture_logs
from tests.kit.gateway import ABSENT, Gateway

PATH = f"/v2/images/{ABSENT}"
ID = "req-00000000-0000-4000-8000-000000000001"


async def test_a_request_leaves_one_line_in_the_log(gate: Gateway) -> None:
    with capture_logs() as lines:
        await gate.ask("GET", "/v2/images", headers={"X-Openstack-Request-ID": ID})
        await gate.ask("GET", "/metrics")  # which are of all requests before it
    told = [line for line in lines if line["event"] == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in told] == [
        ("GET", "/v2/images", 200)
    ]
    assert told[0]["request_id"] == ID
    assert 0 <= told[0]["seconds"] < 60
    assert "error" not in told[0]


async def test_the_line_of_a_refused_request_says_why(gate: Gateway) -> None:
    with capture_logs() as lines:
        await gate.ask("GET", PATH)
        await gate.ask("GET", "/metrics")
    (line,) = (line for line in lines if line["event"] == "request")
    assert line["status"] == 404
    assert line["error"].startswith("No image found with ID 0000")


async def test_checks_of_health_leave_no_line(gate: Gateway) -> None:
    with capture_logs() as lines:
        for path in ("/healthz", "/readyz", "/metrics", "/metrics"):
            await gate.ask("GET", path)
    assert [line for line in lines if line["event"] == "request"] == []


async def test_requests_are_counted_by_route_and_status(gate: Gateway) -> None:
    before = await _count(gate)
    for _ in range(3):
        await gate.ask("GET", PATH)
    assert await _count(gate) == before + 3


async def _count(gate: Gateway) -> float:
    text = (await gate.ask("GET", "/metrics")).body.decode()
    found = re.search(
        r'tidegate_requests_total\{code="404",method="GET",route="/v2/images/\{image_id\}"\} (\S+)',
        text,
    )
    return 0.0 if found is None else float(found[1])
