"""glance, the client, as a person uses it."""

import subprocess
import sys
from pathlib import Path

from tests.kit.command import environment
from tests.kit.server import Server

GLANCE = str(Path(sys.executable).parent / "glance")
FORMATS = ("--disk-format", "raw", "--container-format", "bare")


class Glance:
    """Of this version of the API (None: the client's choice), with this token."""

    def __init__(self, server: Server, *, version: int | None = 2, token: str = "none") -> None:
        self._server = server
        self._options = ["--os-image-url", server.url, "--os-auth-token", token]
        if version is not None:
            self._options += ["--os-image-api-version", str(version)]

    def run(self, *arguments: str, fails: bool = False) -> str:
        """What it printed."""
        done = subprocess.run(
            # an open standard input would be taken for an image's data
            ["bash", "-c", 'exec "$@" <&-', "glance", GLANCE, *self._options, *arguments],
            capture_output=True,
            text=True,
            cwd=self._server.folder,
            env=environment(COLUMNS="300", HOME=str(self._server.folder)),
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stderr + done.stdout
        return done.stderr if fails else done.stdout

    def rows(self, *arguments: str) -> list[list[str]]:
        """A table, without its head."""
        lines = [line for line in self.run(*arguments).splitlines() if "|" in line]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]

    def fields(self, *arguments: str) -> dict[str, str]:
        """A table of two columns."""
        rows = (line.split("|") for line in self.run(*arguments).splitlines() if "|" in line)
        return {row[1].strip(): row[2].strip() for row in rows}
