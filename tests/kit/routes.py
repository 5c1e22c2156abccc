"""The routes of the application, as documents name them."""

import re

from tidegate.api.routes import DATA_ROUTES, ROUTES


def routed() -> set[tuple[str, str]]:
    """Methods and paths; what takes any method is told of as a GET."""
    return {
        ("GET" if method == "*" else method, re.sub(r":[^}]*", "", path))
        for method, path, _ in (*ROUTES, *DATA_ROUTES)
    }
