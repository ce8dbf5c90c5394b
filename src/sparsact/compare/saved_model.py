"""The chosen network as one file that holds everything needed to use it."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors
from sparsact._common.errors import InputError, MissingInputError
from sparsact.compare.compared_penalties import Strength
from sparsact.compare.split_dataset import SplitData
from sparsact.compare.table_problem import build_network
from sparsact.compare.training_plan import Setting


class Standardise(nn.Module):
    """``(x − mean)/scale`` per feature, with the statistics of the training part."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise `x` of shape (…, features) in float64 and return float32."""
        return ((x.double() - self.mean) / self.scale).float()


def save_model(
    path: Path,
    weights: dict[str, Tensor],
    setting: Setting,
    hidden: tuple[int, ...],
    data: SplitData,
) -> None:
    """Write a network, its standardisation and the description of its inputs and outputs."""
    description = {
        "activation": setting.activation,
        "level": setting.level,
        "penalty": None if setting.penalty is None else setting.penalty.__dict__,
        "hidden": hidden,
        "inputs": data.train.x.shape[1],
        "outputs": data.outputs,
        "task": data.task,
        "columns": data.columns,
        "classes": data.classes,
        "target_mean": data.target_mean,
        "target_scale": data.target_scale,
    }
    tensors = {f"network.{name}": tensor for name, tensor in weights.items()}
    tensors |= {"standardise.mean": data.mean, "standardise.scale": data.scale}
    write_tensors(path, tensors, {"sparsact": json.dumps(description)})


def load_model(path: str | Path) -> nn.Module:
    """The network in a run's ``model.safetensors``.

    Args:
        path: the file.

    Returns:
        a module in eval mode that takes raw inputs (samples, features), float32 or float64, and
        returns logits, the standardised target, or the standardised reconstruction. Its
        `description`, a dict, has the ``columns`` of the inputs, the ``classes`` in the order of
        the logits, and ``target_mean`` and ``target_scale``: the target is
        ``output * target_scale + target_mean``.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is damaged or was not written by a comparison.
    """
    description, tensors = _read(Path(path))
    penalty = description["penalty"]
    setting = Setting(
        description["activation"],
        description["level"],
        None if penalty is None else Strength(**penalty),
    )
    inputs, outputs = description["inputs"], description["outputs"]
    model = nn.Sequential()
    model.add_module(
        "standardise", Standardise(tensors["standardise.mean"], tensors["standardise.scale"])
    )
    model.add_module(
        "network", build_network(setting, inputs, tuple(description["hidden"]), outputs, seed=0)
    )
    model.load_state_dict(tensors)
    model.description = description
    return model.eval()


def _read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """The description and the tensors of a saved network."""
    if not path.is_file():
        raise MissingInputError(f"no such file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    if "sparsact" not in metadata:
        raise InputError(f"{path} has no description of a network: no comparison wrote it")
    return json.loads(metadata["sparsact"]), tensors
