"""Drive every call of a running gateway by its own document: ``python -m tests.openapi``.

Arguments that fit the document and others, by callers of every role and by nobody; each answer must
be one that the document knows.
"""

import argparse
import asyncio
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisDeprecationWarning
from schemathesis import checks
from schemathesis.core.failures import FailureGroup
from tests.kit.gateway import DATA, V20, V21, running
from tests.kit.tokens import everybody

from tidegate.stores.memory import MemoryStore

schemathesis.serializer.alias([V20, V21], "application/json")

checks.load_all_checks()
CHECKS = [
    checks.CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    )
]
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
GUESSED = 4
"""One of so many calls is left with the names that were made up for it."""


CALLERS = ("admin", "admin", "owner", "owner", "manager", "reader", "stranger", "forged", "nobody")
"""Those who may do more come more often."""

Headers = dict[str, str]


class Ground:
    """What calls can be about: made again before each, since calls delete and change it."""

    def __init__(self, url: str, callers: dict[str, Headers]) -> None:
        self._url = url
        self._callers = callers
        self._session = requests.Session()
        self._task: str | None = None

    def names(self, path: str) -> dict[str, str]:
        """For the places in the path."""
        found = {"member": "p2", "tag": "blue", "store_id": "memory", "name": "one"}
        if "{task_id}" in path:
            found["task_id"] = self._task = self._task or self._new_task()
        if "{image_id}" in path:
            found["image_id"] = self._image(filled=not path.endswith(("/stage", "/import")))
        if "{namespace}" in path:
            found["namespace"] = self._namespace()
        if path.startswith("/v2/schemas"):
            found["name"] = "tag" if "metadefs" in path else "image"
        return found

    def _ask(
        self,
        method: str,
        path: str,
        caller: str = "owner",
        headers: Headers | None = None,
        **more: Any,
    ) -> requests.Response:
        headers = {**self._callers[caller], **(headers or {})}
        answer = self._session.request(
            method, self._url + path, headers=headers, timeout=20, **more
        )
        assert answer.status_code < 500, answer.text
        return answer

    def _image(self, *, filled: bool) -> str:
        new = {"disk_format": "raw", "container_format": "bare", "tags": ["blue"], "a": "b"}
        image_id: str = self._ask("POST", "/v2/images", json=new).json()["id"]
        path = f"/v2/images/{image_id}"
        self._ask("POST", f"{path}/members", json={"member": "p2"})
        if filled:
            self._ask("PUT", f"{path}/file", data=b"12345678", headers={"Content-Type": DATA})
        return image_id

    def _namespace(self) -> str:
        path = "/v2/metadefs/namespaces"
        self._ask("DELETE", f"{path}/ground", "admin")
        new = {
            "namespace": "ground",
            "owner": "p1",
            "objects": [{"name": "one", "properties": {"p": {"title": "t", "type": "string"}}}],
            "tags": [{"name": "one"}],
            "properties": {"one": {"title": "t", "type": "integer", "minimum": 1}},
            "resource_type_associations": [{"name": "one", "prefix": "x_"}],
        }
        self._ask("POST", path, "admin", json=new)
        return "ground"

    def _new_task(self) -> str:
        given = {"import_from": "http://127.0.0.1:9/", "import_from_format": "raw",
                 "image_properties": {}}  # fmt: skip
        answer = self._ask("POST", "/v2/tasks", "admin", json={"type": "import", "input": given})
        task_id: str = answer.json()["id"]
        return task_id


def operations(url: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.get_all_operations():
        yield result.ok()


@dataclass
class Findings:
    """``answers`` counts them by status; ``wrong`` says what was not in the document."""

    answers: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def drive(url: str, callers: dict[str, Headers], examples: int, first_seed: int = 0) -> Findings:
    """So many calls of each operation and kind."""
    ground, found = Ground(url, callers), Findings()
    for operation in operations(url):
        for mode in MODES:
            try:
                _drive_one(operation, mode, ground, url, callers, found, examples, first_seed)
            except FailureGroup as group:
                found.wrong += [_line(operation, str(one)) for one in group.exceptions]
            except BaseException as error:
                if not _says_nothing(error):
                    found.wrong.append(_line(operation, f"{type(error).__name__}: {error}"))
    return found


def _line(operation: Any, text: str) -> str:
    return f"{operation.label}: {' '.join(text.split())[:600]}"


def _says_nothing(error: BaseException) -> bool:
    """There is nothing that would not fit the operation."""
    return type(error).__name__ in ("Unsatisfiable", "SkipTest")


def _drive_one(
    operation: Any,
    mode: Any,
    ground: Ground,
    url: str,
    callers: dict[str, Headers],
    found: Findings,
    examples: int,
    first_seed: int,
) -> None:
    @seed(first_seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=mode),
        guess=st.integers(1, GUESSED),
        caller=st.sampled_from(CALLERS),
    )
    def once(case: Any, guess: int, caller: str) -> None:
        if guess != GUESSED and case.path_parameters:
            names = ground.names(operation.path)
            case.path_parameters.update(
                {name: names[name] for name in case.path_parameters if name in names}
            )
        response = case.call(
            base_url=url, headers=callers[caller], timeout=20, allow_redirects=False
        )
        found.answers[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    once()


async def run(folder: Path, examples: int, first_seed: int = 0) -> Findings:
    """On a gateway of its own, with all that can be switched on."""
    tokens = folder / "tokens.toml"
    callers = {**everybody(tokens), "forged": {"X-Auth-Token": "forged"}, "nobody": {}}
    async with running(
        MemoryStore(),
        folder,
        auth={"mode": "tokens", "tokens_file": str(tokens)},
        cache={"enabled": True, "path": str(folder / "cache")},
    ) as gate:
        return await asyncio.to_thread(drive, gate.url, callers, examples, first_seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HypothesisDeprecationWarning)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(run(Path(folder), arguments.examples, arguments.seed))
    for line in found.wrong:
        print(line)
    counts = ", ".join(f"{count} times {status}" for status, count in sorted(found.answers.items()))
    print(f"{found.answers.total()} answers ({counts}), {len(found.wrong)} wrong")
    raise SystemExit(bool(found.wrong))


if __name__ == "__main__":
    main()
