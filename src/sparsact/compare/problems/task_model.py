"""The chosen network of a comparison that a Python file defines."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors
from sparsact._common.errors import InputError, MissingInputError
from sparsact.compare.problems.task_file import task_problem
from sparsact.compare.results.comparison_directory import ComparisonDirectory
from sparsact.compare.saved_model import with_encoding
from sparsact.compare.settings.own_activations import chosen_activations
from sparsact.compare.settings.training_plan import Setting, make_plan

MODEL_FILE = "model.safetensors"


def save_task_model(run: Path, setting: Setting, weights: dict[str, Tensor]) -> None:
    """Write the weights, and which activation they belong to."""
    description = json.dumps({"activation": setting.activation, "level": setting.level})
    write_tensors(run / MODEL_FILE, weights, {"sparsact_task": description})


def load_task_model(run: str | Path) -> nn.Module:
    """The chosen network of a run of ``sparsact compare task.py``, in eval mode.

    The Python file runs again, so it must be where it was, and its ``build`` must make the same
    network.

    Args:
        run: the run directory.

    Raises:
        MissingInputError: the run has no network, or the Python file is gone.
        InputError: the file does not run, or the weights do not belong to its network.
    """
    path = Path(run) / MODEL_FILE
    config = ComparisonDirectory.open(Path(run)).config
    if not path.is_file():
        raise MissingInputError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            description = (file.metadata() or {}).get("sparsact_task")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    if description is None:
        raise InputError(f"{path} belongs to no Python file: read it with load_model")
    chosen = json.loads(description)
    activation = chosen_activations(config.activations)[chosen["activation"]]
    problem = task_problem(make_plan(config))
    model, _ = problem.network(activation, chosen["level"], 0)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit the network of {config.data}: {error}") from error
    return with_encoding(model.to(problem.device).eval(), problem.encoding)
