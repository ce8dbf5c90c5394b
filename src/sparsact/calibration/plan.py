"""The result of calibration: a threshold for every input channel of every site."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact._common.errors import InputError
from sparsact.calibration.batches import Batch
from sparsact.calibration.calibration_run import CalibrationRun
from sparsact.calibration.measured_sparsity import byte_sparsity, measured_sparsity
from sparsact.calibration.parameter_samples import check_layers, check_others
from sparsact.calibration.plan_files import DESCRIPTION, TENSORS, read_plan
from sparsact.calibration.simulate import Simulation, below, check_dense
from sparsact.calibration.sites import InputSite
from sparsact.calibration.weight_updates import Updates
from sparsact.hooks import Removable


@dataclass(frozen=True)
class ThresholdPlan:
    """Thresholds on the inputs of a model's linear layers.

    Attributes:
        sites: the input sites, in the order of the forward.
        thresholds: λ of each site by its name, (inputs,) float32: ``|x_i| ≤ λ_i`` becomes 0.
        samples: some weights of every layer; the plan recognises its model by them.
        sparsity: the share of the sites' weight bytes that calibration aimed at.
        achieved: the measured share of its weights that each site does not read.
        score: the score that it was calibrated with.
        allocate: the allocation that it was calibrated with.
        keep_first: number of first tokens of a sequence that stay dense. They are found in calls
            of the model itself; calls of a part of it, ``model.model(ids)``, threshold all tokens.
        others: some values of every other parameter, as `samples`; empty in older plans.
        updates: changes of the model's weights by compensation and tuning.
    """

    sites: tuple[InputSite, ...]
    thresholds: dict[str, Tensor]
    samples: dict[str, Tensor]
    sparsity: float
    score: str
    allocate: str
    keep_first: int = 0
    achieved: dict[str, float] = field(default_factory=dict)
    others: dict[str, Tensor] = field(default_factory=dict)
    updates: Updates = field(default_factory=Updates)

    @property
    def achieved_sparsity(self) -> float:
        """The measured share of all sites' weight bytes that is not read."""
        return byte_sparsity(self.sites, self.achieved)

    def apply(self, model: nn.Module) -> Removable:
        """Simulate the plan: entries below their threshold become zero, and nothing is faster.

        Works on every device and in training; the gradient passes where the activation does.
        Parameters that the plan's updates change cannot be trained meanwhile: they are restored.

        Args:
            model: the model that was calibrated. Its layers get hooks, and the plan's updates are
                written into it.

        Returns:
            a handle whose ``remove()`` takes the hooks away and restores the model's weights.

        Raises:
            InputError: the plan is for another model.
            RuntimeError: the plan has updates, and the model contains such updates already.
        """
        self.check(model)
        return _Applied(self, model)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """:meth:`apply` for a ``with`` block."""
        with self.apply(model):
            yield model

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """The share of its weights that each site does not read while the plan is applied.

        Raises:
            InputError: the plan is for another model, or there are no batches.
            RuntimeError: a plan is applied to the model.
        """
        self.check(model)
        check_dense(model)
        run = CalibrationRun(model, batches, self.sites, self.keep_first)
        with self.updates.write(model):
            return measured_sparsity(run, self.thresholds)

    def check(self, model: nn.Module) -> None:
        """Raise InputError unless the plan was made for `model`.

        A RuntimeError if the plan has updates and the model contains such updates already.
        """
        _check_thresholds(self.sites, self.thresholds)
        self.updates.check(model)
        inputs = {reader: site.inputs for site in self.sites for reader in site.readers}
        check_layers(model, self.samples, inputs)
        check_others(model, self.others)

    def save(self, path: str | Path) -> Path:
        """Write the plan as a directory of safetensors and JSON.

        Raises:
            OutputError: the disk is full or not writable; an older plan there stays complete.
        """
        folder = Path(path)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / TENSORS, self.tensors())
        write_text(folder / DESCRIPTION, json.dumps(self.description(), indent=2) + "\n")
        return folder

    def description(self) -> dict[str, Any]:
        """Everything but the tensors, for JSON."""
        return {
            "sparsity": self.sparsity,
            "score": self.score,
            "allocate": self.allocate,
            "keep_first": self.keep_first,
            "achieved": self.achieved,
            "sites": [asdict(site) for site in self.sites],
        }

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by a name of their own, for a file."""
        tensors = {f"threshold.{name}": threshold for name, threshold in self.thresholds.items()}
        tensors |= {f"sample.{name}": sample for name, sample in self.samples.items()}
        tensors |= {f"other.{name}": sample for name, sample in self.others.items()}
        return tensors | self.updates.tensors()

    @classmethod
    def load(cls, path: str | Path, *, revision: str | None = None) -> "ThresholdPlan":
        """Read a plan that :meth:`save` wrote, or the plan of a saved sparse model.

        Args:
            path: a directory, or ``owner/name`` on the Hugging Face hub.
            revision: branch, tag or commit of a name on the hub.

        Raises:
            MissingInputError: there is no plan.
            InputError: its files are damaged, or of a newer format.
        """
        return read_plan(path, revision, cls.from_parts)

    @classmethod
    def from_parts(
        cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> "ThresholdPlan":
        """The plan of such a description and such tensors.

        Raises:
            InputError: thresholds are not finite, negative, or too few.
        """
        settings = dict(description)
        sites = [
            InputSite(site["name"], tuple(site["readers"]), site["inputs"], site["outputs"])
            for site in settings.pop("sites")
        ]
        thresholds = {site.name: tensors[f"threshold.{site.name}"] for site in sites}
        _check_thresholds(sites, thresholds)
        return cls(
            sites=tuple(sites),
            thresholds=thresholds,
            samples={
                reader: tensors[f"sample.{reader}"] for site in sites for reader in site.readers
            },
            others={
                name.removeprefix("other."): tensor
                for name, tensor in tensors.items()
                if name.startswith("other.")
            },
            updates=Updates.from_tensors(tensors),
            **settings,
        )


class _Applied(Removable):
    """A plan that is applied to a model."""

    def __init__(self, plan: ThresholdPlan, model: nn.Module) -> None:
        self._simulation = Simulation(model, plan.sites, below(plan.thresholds), plan.keep_first)
        self._written = plan.updates.write(model)

    def remove(self) -> None:
        """End it."""
        self._simulation.remove()
        self._written.remove()


def _check_thresholds(sites: Iterable[InputSite], thresholds: dict[str, Tensor]) -> None:
    for site in sites:
        threshold = thresholds[site.name]
        if threshold.shape != (site.inputs,):
            raise InputError(
                f"the thresholds of {site.name!r} must be of shape ({site.inputs},), got "
                f"{tuple(threshold.shape)}"
            )
        if not bool(((threshold >= 0) & threshold.isfinite()).all()):
            raise InputError(f"the thresholds of {site.name!r} must be finite and at least 0")
