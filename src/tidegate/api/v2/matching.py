"""Bodies against their JSON schemas."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from tidegate.domain.errors import Invalid


def _unique(
    validator: Validator, wanted: bool, value: object, schema: Mapping[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    """Of texts; the library compares each with each as soon as one is none, which then is refused
    for its type."""
    if wanted and isinstance(value, list):
        texts = [one for one in value if isinstance(one, str)]
        if len(set(texts)) < len(texts):
            yield jsonschema.ValidationError(f"{value!r} has non-unique elements")


def _pattern(
    validator: Validator, pattern: str, value: object, schema: Mapping[str, Any]
) -> Iterator[jsonschema.ValidationError]:
    """The ``$`` at its end is the end of the text, as JSON Schema means it (ECMA-262); Python's
    own would let a line break follow."""
    whole = rf"{pattern[:-1]}\Z" if pattern.endswith("$") else pattern
    if isinstance(value, str) and not re.search(whole, value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    jsonschema.Draft202012Validator, {"uniqueItems": _unique, "pattern": _pattern}
)


class Matcher:
    """Of one schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._name = schema["name"]
        self._validator: Validator = _Validator(schema)

    def check(self, body: Mapping[str, Any]) -> None:
        """Invalid, naming the member and what is wrong with it; long values are not repeated."""
        error = jsonschema.exceptions.best_match(self._validator.iter_errors(dict(body)))
        if error is None:
            return
        where = ".".join(str(step) for step in error.absolute_path)
        what = f"{where}: {error.message}" if where else error.message
        raise Invalid(f"Provided object does not match schema '{self._name}': {what[:300]}")
