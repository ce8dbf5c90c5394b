import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


torch.set_num_threads(1)  # small tensors; parallel test workers would starve each other


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
