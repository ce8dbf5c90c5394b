"""The chosen network as a file that stands for itself."""

import json
from pathlib import Path

from safetensors import safe_open
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors
from sparsact.compare.config import Setting, Strength
from sparsact.compare.split import SplitData
from sparsact.compare.trial import build_network


class Standardise(nn.Module):
    """``(x − mean)/scale`` per feature, with the statistics of the training part."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise `x` of shape (…, features); float32 from what is computed in float64."""
        return ((x.double() - self.mean) / self.scale).float()


def save_model(
    path: Path,
    weights: dict[str, Tensor],
    setting: Setting,
    hidden: tuple[int, ...],
    data: SplitData,
) -> None:
    """Write a network with everything that is needed to use it."""
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
        `description`, a dict, has the ``columns`` that it takes, the ``classes`` in the order of
        the logits, and ``target_mean`` and ``target_scale``, which give the target back.
    """
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()["sparsact"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
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
