"""``tidegate bench`` as it is run."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.command import Serving, run, serving
from typer.testing import CliRunner

from tidegate.bench.scenarios import LOADS
from tidegate.cli import app

FIGURES = {
    *(f"upload-{name}" for name in LOADS),
    *(f"download-{name}" for name in LOADS),
    "catalog create", "catalog show", "catalog list", "catalog delete",
    "register-v1", "register-v2",
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One that runs, with the settings it has without a configuration."""
    with serving(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def images(gateway: Serving) -> list[Any]:
    found: list[Any] = json.loads(gateway.ask("/v2/images")[1])["images"]
    return found


def by_name(figures: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {figure["scenario"]: figure for figure in figures}


def test_a_whole_gateway_is_measured_in_every_way(tmp_path: Path) -> None:
    done = run("bench", "--scale", "0.01", "--json", "-", folder=tmp_path)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["scale"] == 0.01
    assert len(found["repetitions"]) == len(FIGURES)
    figures = by_name(found["figures"])
    assert set(figures) == FIGURES
    for name, figure in figures.items():
        assert figure["seconds"] > 0
        assert 0 < figure["latency_p50"] <= figure["latency_p95"] <= figure["latency_p99"]
        assert figure["gateway_cpu_seconds"] > 0
        assert figure["gateway_peak_bytes"] > 2**20
        assert (figure["bytes"] > 0) == name.startswith(("upload", "download"))
    for way in ("upload", "download"):
        assert figures[f"{way}-1g"]["bytes"] == round(0.01 * 2**30)
        assert figures[f"{way}-8x256m"]["operations"] == 8
        assert figures[f"{way}-200x1m"]["operations"] == 2
    assert figures["register-v2"]["operations"] == 10
    assert list(tmp_path.iterdir()) == []


def test_a_running_gateway_is_left_as_it_was(gateway: Serving, tmp_path: Path) -> None:
    picture, file = tmp_path / "chart.svg", tmp_path / "figures.json"
    done = run(
        "bench", "upload-8x256m", "download-200x1m", "catalog", "--scale", "0.01",
        "--url", gateway.url, "--pid", str(gateway.process.pid), "--repeat", "2",
        "--json", str(file), "--picture", str(picture), folder=tmp_path,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert images(gateway) == []
    found = json.loads(file.read_text())
    assert len(found["repetitions"]) == 2 * len(found["figures"]) == 12
    assert by_name(found["figures"])["upload-8x256m"]["gateway_cpu_seconds"] > 0
    assert b"catalog show" in done.out
    assert "<svg" in picture.read_text()


def test_an_answer_that_is_not_right_ends_it_in_one_line(gateway: Serving, tmp_path: Path) -> None:
    # locations are not taken by default
    done = run("bench", "register-v2", "--scale", "0.001", "--url", gateway.url, folder=tmp_path)
    assert done.code == 1
    assert "PATCH locations was answered 403, not 200" in done.line
    assert images(gateway) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["uplaod-1g"], "'uplaod-1g' is no scenario; known are upload-1g"),
        (["--scale", "0"], "--scale must be more than 0"),
        (["--scale", "nan"], "--scale must be more than 0"),
        (["--repeat", "0"], "--repeat must be at least 1"),
        (["--workers", "-1"], "--workers must not be negative"),
        (["--store", "tape"], "'tape' is no store to measure with; known are sink"),
        (["--pid", "1"], "--pid goes with --url"),
        (["--url", "http://x", "--store", "sink"], "not for --url"),
        (["--url", "http://x", "--pid", "4194305"], "there is no process 4194305"),
        (["--url", "ftp://x"], "'ftp://x' is no URL of a server"),
        (["--token", "a\nb"], "the token cannot be sent"),
        (["--picture", "chart.pdf"], "chart.pdf must end in .svg or .png"),
    ],
)
def test_bad_input_gets_one_clear_line(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["bench", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_picture_names_the_extra_that_draws_it(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    done = run(
        "bench", "--picture", "x.svg", folder=tmp_path, environ={"PYTHONPATH": str(tmp_path)}
    )
    assert (done.code, done.line) == (
        1, "tidegate: a picture needs matplotlib: pip install 'tidegate[bench]'",
    )  # fmt: skip


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("bench", "catalog", "--url", "http://127.0.0.1:1", folder=tmp_path)
    assert (done.code, done.line) == (
        1, f"tidegate: no server answers at 127.0.0.1:1: {os.strerror(111)}",
    )  # fmt: skip
