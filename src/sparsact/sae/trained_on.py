"""Where the activations of an autoencoder came from, and whether a model is that one."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError

MATRICES, ENTRIES = 32, 4
"""Number of weight matrices, and of entries of each, by which a model is recognised."""

ALIKE = 0.2
"""Largest relative difference of those entries. Another dtype, quantisation or finetuning stays
below it; another model is near 1.4."""

WRAPPERS = ("_orig_mod.", "base_model.model.", ".base_layer")
"""What compilation and adapters add to the names of parameters."""

Weights = Mapping[str, Sequence[float]]

HOOK = "hook_"
"""What the names of TransformerLens contain."""


@dataclass(frozen=True)
class TrainedOn:
    """The activations that an autoencoder was trained on. It is saved with the autoencoder.

    Args:
        model: name or directory of the model.
        layer: name of the module.
        site: whether the activations are the output of that module, or its input.
        skip: leading tokens of each text that were left out, 1 for a BOS.
        weights: some entries of some of the model's weights, by which it is recognised.
        data: digest of the activations.
        held_out: number of activations that were held out.
        seed: seed with which those were drawn.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> trained_on = TrainedOn.of(model, "0", name="small")
        >>> trained_on.check(TrainedOn.of(model, "0"))
        >>> trained_on.check(TrainedOn.of(model, "1"))
        Traceback (most recent call last):
        ...
        sparsact._common.errors.InputError: the autoencoder was trained on the output of '0' of \
small, not on the output of '1': check=False allows it
    """

    model: str | None = None
    layer: str | None = None
    site: Literal["input", "output"] = "output"
    skip: int = 0
    weights: Weights = field(default_factory=dict)
    data: str | None = None
    held_out: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        plain = {name: tuple(values) for name, values in self.weights.items()}
        object.__setattr__(self, "weights", plain)  # JSON has lists only

    @classmethod
    def of(
        cls,
        model: nn.Module,
        layer: str,
        site: Literal["input", "output"] = "output",
        *,
        skip: int = 0,
        name: str | None = None,
    ) -> "TrainedOn":
        """The record for a module of a model.

        Args:
            model: any model.
            layer: name of the module.
            site: whether its output or its input is encoded.
            skip: leading tokens that are left out.
            name: of the model; by default that of its transformers config.
        """
        known = getattr(getattr(model, "config", None), "name_or_path", None) or None
        return cls(name or known, layer, site, skip, _some_weights(model))

    def check(self, used: "TrainedOn") -> None:
        """Compare with the activations that the autoencoder is used on.

        What is not recorded in both is not compared.

        Raises:
            InputError: a ValueError: another layer, site or model.
        """
        if not self._is_at(used):
            of_model = "" if self.model is None else f" of {self.model}"
            raise InputError(
                f"the autoencoder was trained on the {self.site} of {self.layer!r}{of_model}, not "
                f"on the {used.site} of {used.layer!r}: check=False allows it"
            )
        if self.weights and used.weights and not _alike(self.weights, used.weights):
            raise InputError(
                f"the autoencoder was trained on {self.model or 'another model'}, whose weights "
                "differ from those of this model: check=False allows it"
            )

    def _is_at(self, used: "TrainedOn") -> bool:
        if self.layer is None or used.layer is None:
            return True
        if HOOK in self.layer:  # a name of TransformerLens: only the block can be compared
            blocks = _block(self.layer), _block(used.layer)
            return None in blocks or blocks[0] == blocks[1]
        is_layer = f".{used.layer}".endswith(f".{self.layer}")
        return is_layer and self.site == used.site


def _block(name: str) -> str | None:
    """The first number in the name of a module or hook."""
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    return None if number is None else number[1]


@torch.no_grad()
def _some_weights(model: nn.Module) -> dict[str, tuple[float, ...]]:
    """A few entries of some weight matrices.

    The matrices are those whose names have the smallest digests, so that models which differ by
    additions, such as adapters, share most of them.
    """
    matrices = {
        _plain(name): weight
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and weight.numel() and weight.is_floating_point()
    }
    chosen = sorted(matrices, key=lambda name: hashlib.sha256(name.encode()).digest())[:MATRICES]
    return {name: _some_entries(matrices[name]) for name in chosen}


def _plain(name: str) -> str:
    """The name of a parameter without what adapters and compilation add to it."""
    for part in WRAPPERS:
        name = name.replace(part, "")
    return name


def _some_entries(weight: Tensor) -> tuple[float, ...]:
    flat = weight.detach().reshape(-1)
    places = torch.arange(1, 2 * ENTRIES, 2, device=flat.device) * len(flat) // (2 * ENTRIES)
    return tuple(float(f"{value:.5g}") for value in flat[places].float().tolist())


def _alike(trained: Weights, used: Weights) -> bool:
    """Whether the weights that both have are nearly equal."""
    shared = [name for name in trained if name in used]
    one, other = (
        torch.tensor([value for name in shared for value in weights[name]], dtype=torch.float64)
        for weights in (trained, used)
    )
    return len(one) == len(other) and bool((one - other).norm() <= ALIKE * one.norm())
