"""The chosen network as one file that holds everything needed to use it."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors
from sparsact._common.errors import InputError, MissingInputError
from sparsact.compare.data import SplitData
from sparsact.compare.data.column import Column
from sparsact.compare.data.table_encoder import TableEncoder
from sparsact.compare.problems.networks import NetworkName
from sparsact.compare.problems.table_problem import build_network
from sparsact.compare.problems.user_frames import FrameEncoding
from sparsact.compare.settings.compared_penalties import Strength
from sparsact.compare.settings.training_plan import Setting


class SavedModel(nn.Sequential):
    """Standardisation and network; it also takes a table as it was before it was encoded.

    Attributes:
        description: of the inputs and outputs.
        encoder: what turns a table into features; None if the columns are the features.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.description = description
        table = description.get("table")
        self.encoder = None if table is None else TableEncoder.from_dicts(table)

    def forward(self, x: Any) -> Tensor:
        """The output for features (samples, features) or a DataFrame with the raw columns."""
        if not isinstance(x, Tensor):
            x = self._features(x)
        for module in self:
            x = module(x)
        output: Tensor = x
        return output

    def _features(self, table: Any) -> Tensor:
        if not hasattr(table, "columns"):
            raise InputError(
                f"the model takes a tensor or a pandas DataFrame, not {type(table).__name__}"
            )
        encoder = self.encoder
        if encoder is None:
            names = self.description["columns"]
            encoder = TableEncoder(tuple(Column(name, "number") for name in names))
        features = torch.from_numpy(encoder.encode(table))
        return features.to(next(self.parameters()).device)


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


def with_encoding(model: nn.Module, encoding: FrameEncoding | None) -> nn.Module:
    """A network that takes the raw frames of its training, too; without an encoding, as it is."""
    if encoding is None:
        return model
    encoder = encoding.encoder
    saved = SavedModel({"table": encoder.to_dicts(), "columns": encoder.features()})
    saved.add_module("standardise", Standardise(encoding.mean, encoding.scale))
    saved.add_module("network", model)
    return saved.to(next(model.parameters()).device).eval()


def save_model(
    path: Path,
    weights: dict[str, Tensor],
    setting: Setting,
    network: NetworkName,
    hidden: tuple[int, ...],
    data: SplitData,
) -> None:
    """Write a network, its standardisation and the description of its inputs and outputs."""
    description: dict[str, Any] = {
        "activation": setting.activation,
        "level": setting.level,
        "penalty": None if setting.penalty is None else setting.penalty.__dict__,
        "network": network,
        "hidden": hidden,
        "inputs": data.train.x.shape[1],
        "outputs": data.outputs,
        "task": data.task,
        "columns": data.columns,
        "classes": data.classes,
        "target_mean": data.target_mean,
        "target_scale": data.target_scale,
    }
    if data.encoder is not None:
        description["table"] = data.encoder.to_dicts()
    if data.image_shape is not None:
        description["image_shape"] = data.image_shape
    tensors = {f"network.{name}": tensor for name, tensor in weights.items()}
    tensors |= {"standardise.mean": data.mean, "standardise.scale": data.scale}
    write_tensors(path, tensors, {"sparsact": json.dumps(description)})


def load_model(path: str | Path) -> nn.Module:
    """The network in a run's ``model.safetensors``.

    Args:
        path: the file.

    Returns:
        a module in eval mode that takes raw inputs (samples, features), float32 or float64, and
        returns logits, the standardised target, or the standardised reconstruction. After a
        comparison on a table it also takes a pandas DataFrame with the same raw columns, in any
        order: categories, dates and missing cells are encoded as in training. Its `description`,
        a dict, has the ``columns`` of the inputs, the ``classes`` in the order of the logits,
        and ``target_mean`` and ``target_scale``, lists if there are several targets: the target
        is ``output * target_scale + target_mean``; for a table, ``table`` describes each column.

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
    model = SavedModel(description)
    model.add_module(
        "standardise", Standardise(tensors["standardise.mean"], tensors["standardise.scale"])
    )
    network = build_network(
        setting,
        inputs,
        tuple(description["hidden"]),
        outputs,
        seed=0,
        network=description.get("network", "mlp"),
        image_shape=description.get("image_shape"),
    )
    model.add_module("network", network)
    model.load_state_dict(tensors)
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
