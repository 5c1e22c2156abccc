"""What a worker does before it serves."""

import subprocess
import sys
from pathlib import Path

from tidegate.catalog.engine import is_current

PROGRAM = """
import sys
from tidegate import worker
worker._upgrade_apart(sys.argv[1])
print([name for name in sys.modules if name.partition(".")[0] == "alembic"])
"""


def test_the_catalog_is_upgraded_and_what_that_loads_does_not_stay(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url], capture_output=True, check=True, text=True
    )
    assert done.stdout == "[]\n"
    assert is_current(url)


def test_a_catalog_that_cannot_be_upgraded_is_left_for_its_opening_to_tell(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"this is not a database at all, by any means" * 100)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path / 'catalog.db'}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "CatalogDown" in done.stderr.splitlines()[-1]
