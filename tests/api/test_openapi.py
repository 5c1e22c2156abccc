"""The document of the API says what the gateway does."""

from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from tests.kit.gateway import Gateway
from tests.kit.routes import routed
from tests.openapi import run

from tidegate.api.openapi.document import document, operations
from tidegate.settings import ImageFormat


def test_every_route_is_described_and_nothing_else() -> None:
    assert {operation.key for operation in operations()} == routed()


def test_no_operation_is_described_twice() -> None:
    keys = [operation.key for operation in operations()]
    assert len(keys) == len(set(keys))


def test_it_is_valid_openapi() -> None:
    OpenAPIV31SpecValidator(document(ImageFormat())).validate()


async def test_it_is_served_to_everybody(shared_gate: Gateway) -> None:
    answer = await shared_gate.ask("GET", "/openapi.json")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == document(ImageFormat())


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
async def test_every_answer_is_one_that_it_knows(tmp_path: Path) -> None:
    """Of few calls; ``python -m tests.openapi --examples 200`` makes more."""
    assert (await run(tmp_path, examples=1)).wrong == []
