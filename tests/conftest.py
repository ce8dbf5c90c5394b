import sys
from pathlib import Path

import hypothesis
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


# a first call compiles, and machines are shared: time decides nothing
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
torch.set_num_threads(1)  # small tensors; parallel test workers would starve each other


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
