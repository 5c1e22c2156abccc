"""Random lives of images over both APIs agree with the model (see ``machine``)."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.model.ground import Ground
from tests.model.run import drive
from tests.model.world import World

from tidegate.seaweedfs import SeaweedFS

STEPS = 10_000
SEED = 20_001


@pytest.fixture
def world(seaweedfs: SeaweedFS, tmp_path: Path) -> Iterator[World]:
    with World(seaweedfs, tmp_path) as found:
        yield found


@pytest.mark.timeout(900)
def test_the_gateway_agrees_with_the_model(world: World) -> None:
    drive(world, STEPS, SEED, print)
    assert Ground.steps >= STEPS
