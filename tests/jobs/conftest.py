from tests.services.conftest import world

__all__ = ["world"]
