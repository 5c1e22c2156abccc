"""Bodies against their JSON schemas."""

from collections.abc import Mapping
from typing import Any

import jsonschema
from jsonschema.protocols import Validator

from tidegate.domain.errors import Invalid


class Matcher:
    """Of one schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._name = schema["name"]
        self._validator: Validator = jsonschema.Draft202012Validator(schema)

    def check(self, body: Mapping[str, Any]) -> None:
        """Invalid, naming the member and what is wrong with it; long values are not repeated."""
        error = jsonschema.exceptions.best_match(self._validator.iter_errors(dict(body)))
        if error is None:
            return
        where = ".".join(str(step) for step in error.absolute_path)
        what = f"{where}: {error.message}" if where else error.message
        raise Invalid(f"Provided object does not match schema '{self._name}': {what[:300]}")
