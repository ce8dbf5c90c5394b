"""What calibration gives: a threshold for every input channel of every site."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparsact.calibration.batches import Batch, check_batches, counted, rows_of, run, unchanged
from sparsact.calibration.simulate import Simulation, below
from sparsact.calibration.sites import InputSite, is_linear, weight_t
from sparsact.taps import Taps

_THRESHOLDS, _DESCRIPTION = "thresholds.safetensors", "plan.json"
_SAMPLE = 32  # weights of each layer by which a plan knows its model
_SAME = 0.02  # by how much they may differ, of their size: a model in bfloat16 is the same model


@dataclass(frozen=True)
class ThresholdPlan:
    """Thresholds on the inputs of a model's linear layers.

    Attributes:
        sites: the input sites, in the order of the forward.
        thresholds: λ of each site by its name, (inputs,) float32: ``|x_i| ≤ λ_i`` becomes 0.
        samples: some weights of every layer, by which the model is known again.
        sparsity: the share of the sites' weight bytes that was asked for.
        achieved: the share of its weights that each site did not read, where that was measured.
        score: by which it was calibrated.
        allocate: likewise.
        keep_first: first tokens of a sequence that are left dense.
    """

    sites: tuple[InputSite, ...]
    thresholds: dict[str, Tensor]
    samples: dict[str, Tensor]
    sparsity: float
    score: str
    allocate: str
    keep_first: int = 0
    achieved: dict[str, float] = field(default_factory=dict)

    @property
    def achieved_sparsity(self) -> float:
        """The share of all sites' weight bytes that was not read, as `measure` found it."""
        return byte_sparsity(self.sites, self.achieved)

    def apply(self, model: nn.Module) -> Simulation:
        """Simulate the plan: what is below a threshold is zero from here on, and nothing is faster.

        Works on every device, in training too: the gradient passes where the activation does.

        Args:
            model: the model that was calibrated; hooks are put on its layers.

        Returns:
            a handle whose ``remove()`` ends it.

        Raises:
            ValueError: the plan is for another model.
        """
        self.check(model)
        return Simulation(model, self.sites, below(self.thresholds), self.keep_first)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """:meth:`apply` for a ``with`` block."""
        with self.apply(model):
            yield model

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """The share of its weights that each site does not read, while the plan is applied.

        Raises:
            ValueError: the plan is for another model, or there are no batches.
        """
        self.check(model)
        return measure(model, self.sites, self.thresholds, batches, self.keep_first)

    def check(self, model: nn.Module) -> None:
        """Raise ValueError unless `model` is the one that the plan was made for."""
        inputs = {reader: site.inputs for site in self.sites for reader in site.readers}
        for name, sample in self.samples.items():
            try:
                linear = model.get_submodule(name)
            except AttributeError as error:
                raise ValueError(f"the plan is for another model: there is no {name!r}") from error
            if not is_linear(linear):
                raise ValueError(
                    f"the plan is for a model of dense linear layers, and {name!r} is a "
                    f"{type(linear).__name__}: is this model sparse already?"
                )
            found = weight_sample(linear)
            size = float(sample.abs().mean())
            same = (found.shape, weight_t(linear).shape[0]) == (sample.shape, inputs[name])
            if not same or not torch.allclose(found, sample, rtol=_SAME, atol=_SAME * size):
                raise ValueError(f"the plan is for another model: {name!r} has other weights")

    def save(self, path: str | Path) -> Path:
        """Write the plan as a directory of safetensors and JSON."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"threshold.{name}": level for name, level in self.thresholds.items()}
        tensors |= {f"sample.{name}": sample for name, sample in self.samples.items()}
        save_file(tensors, folder / _THRESHOLDS)
        described = {
            "sparsity": self.sparsity,
            "score": self.score,
            "allocate": self.allocate,
            "keep_first": self.keep_first,
            "achieved": self.achieved,
            "sites": [asdict(site) for site in self.sites],
        }
        (folder / _DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, path: str | Path) -> "ThresholdPlan":
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no plan.
        """
        folder = Path(path)
        if not (folder / _DESCRIPTION).is_file():
            raise FileNotFoundError(f"{folder} holds no {_DESCRIPTION}")
        described = json.loads((folder / _DESCRIPTION).read_text())
        tensors = load_file(folder / _THRESHOLDS)
        found = [
            InputSite(site["name"], tuple(site["readers"]), site["inputs"], site["outputs"])
            for site in described.pop("sites")
        ]
        return cls(
            sites=tuple(found),
            thresholds={site.name: tensors[f"threshold.{site.name}"] for site in found},
            samples={
                reader: tensors[f"sample.{reader}"] for site in found for reader in site.readers
            },
            **described,
        )


def byte_sparsity(sites: Iterable[InputSite], shares: dict[str, float]) -> float:
    """The mean of the sites' sparsities, each counted by its weights."""
    pairs = [(site.weights, shares[site.name]) for site in sites if site.name in shares]
    total = sum(weights for weights, _ in pairs)
    return sum(weights * share for weights, share in pairs) / total if total else float("nan")


def measure(
    model: nn.Module,
    sites: Iterable[InputSite],
    thresholds: dict[str, Tensor],
    batches: Iterable[Batch],
    keep_first: int = 0,
) -> dict[str, float]:
    """The share of zeros at each site under thresholds, over all tokens that are thresholded."""
    check_batches(batches)
    zeros = {site.name: 0 for site in sites}
    entries = dict.fromkeys(zeros, 0)
    kept: Tensor | None = None

    def count(name: str, x: Tensor) -> None:
        rows = rows_of(x, kept)
        entries[name] += rows.numel()
        zeros[name] += rows.numel() - int(torch.count_nonzero(rows))

    simulation = Simulation(model, sites, below(thresholds), keep_first)
    taps = Taps({name: model.get_submodule(name) for name in zeros}, count, "input")
    try:
        with unchanged(model), torch.no_grad():
            for batch in batches:
                kept = counted(batch, keep_first)
                run(model, batch)
    finally:
        taps.remove()
        simulation.remove()
    if not any(entries.values()):
        raise ValueError("there are no batches to measure on")
    return {name: zeros[name] / entries[name] for name in zeros if entries[name]}


def weight_sample(linear: nn.Module) -> Tensor:
    """Some weights of a layer, evenly spread."""
    flat = weight_t(linear).t().flatten()
    return flat[:: max(1, len(flat) // _SAMPLE)][:_SAMPLE].float().cpu().clone()
