"""What calibration gives: a threshold for every input channel of every site."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sparsact._common.atomic import write_tensors, write_text, writing
from sparsact._common.progress import Progress
from sparsact.calibration.batches import Batch, Target
from sparsact.calibration.measure import byte_sparsity, measure
from sparsact.calibration.samples import check_layers, check_others
from sparsact.calibration.simulate import Simulation, below, check_dense
from sparsact.calibration.sites import InputSite
from sparsact.calibration.updates import Updates
from sparsact.hooks import Removable

_TENSORS, _DESCRIPTION = "plan.safetensors", "plan.json"


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
        keep_first: first tokens of a sequence that are left dense. They are found where the model
            itself is called: a call of a part of it, ``model.model(ids)``, has zeros in all.
        others: some values of every other parameter, likewise; none in an older plan.
        updates: what compensation and tuning change in the model's weights.
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
        """The share of all sites' weight bytes that was not read, as `measure` found it."""
        return byte_sparsity(self.sites, self.achieved)

    def apply(self, model: nn.Module) -> Removable:
        """Simulate the plan: what is below a threshold is zero from here on, and nothing is faster.

        Works on every device, in training too: the gradient passes where the activation does. What
        a plan with updates changes cannot be trained, as it is taken out again.

        Args:
            model: the model that was calibrated; hooks are put on its layers, and a tuned plan's
                weights into it.

        Returns:
            a handle whose ``remove()`` ends it, and gives the model its own weights back.

        Raises:
            ValueError: the plan is for another model.
            RuntimeError: it is tuned, and the updates of a tuned plan are in the model already.
        """
        self.check(model)
        return _Applied(self, model)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[nn.Module]:
        """:meth:`apply` for a ``with`` block."""
        with self.apply(model):
            yield model

    def measure(self, model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
        """The share of its weights that each site does not read, while the plan is applied.

        Raises:
            ValueError: the plan is for another model, or there are no batches.
            RuntimeError: a plan is applied to the model.
        """
        self.check(model)
        check_dense(model)
        with self.updates.write(model):
            return measure(model, self.sites, self.thresholds, batches, self.keep_first)

    def compensate(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        *,
        rank: int = 64,
        progress: Progress | None = None,
    ) -> "ThresholdPlan":
        """Let the inputs that stay make up for those that are left out, as far as they tell them.

        Of a layer ``W·x`` that is given ``s = x·1[|x|>λ]``, the addition ΔW that comes nearest to
        what is missing, ``E‖W·(x − s) − ΔW·s‖² + ρ‖ΔW‖²``, is a ridge regression; its best part of
        rank `rank` is kept. Where the layer has a bias, that takes what is constant. Merged into
        the weights it costs nothing later. It needs one forward for each batch and no gradient, so
        that it is much shorter than :meth:`tune`, which may follow and goes on from here.

        Args:
            model: the model that was calibrated; it is left as it was, and what is found goes into
                `updates` of the plan.
            batches: as for :func:`sparsact.calibration.calibrate`, and better more of them: a few
                tokens do not tell a matrix.
            rank: of the additions.
            progress: called with the steps done, their number, and what is being done.

        Returns:
            the new plan, with `achieved` measured on the first batches.

        Raises:
            ValueError: no batches, a rank below 1, another model, or a plan with updates.
            RuntimeError: a plan is applied to the model.
        """
        from sparsact.calibration.compensate import compensate

        return compensate(self, model, batches, rank=rank, progress=progress)

    def tune(
        self,
        model: nn.Module,
        batches: Iterable[Batch],
        steps: int,
        *,
        learn: Sequence[str] = ("norms", "low_rank"),
        lr: float | None = None,
        rank: int = 16,
        target: Target | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "ThresholdPlan":
        """Learn to be sparse: a plan whose model predicts more nearly what the dense one does.

        Each step takes one batch, in an order drawn anew for every pass, and lowers the KL
        divergence of the sparse model from the dense one. Where there are no logits, or a `target`
        says what counts, it is the squared error, relative to the square. All thresholds move by a
        common factor that holds the sparsity.

        Args:
            model: the model that was calibrated; it is left as it was, and what is learned goes
                into `updates` of the plan.
            batches: as for :func:`sparsact.calibration.calibrate`; the more different, the better.
            steps: how many, each about four forwards long.
            learn: some of ``"norms"`` (all parameters with one dim), ``"low_rank"`` (an addition of
                rank `rank` to the weight of every layer; merged, it costs nothing later) and
                ``"thresholds"`` (a factor for the thresholds of each site, by a straight-through
                gradient within a tenth of the threshold, along what leaves the sparsity alone).
            lr: of Adam; it rises for five steps and falls as a cosine. By default 2e-4 from a
                compensated or tuned plan, and 2e-3 where the additions begin at zero.
            rank: of additions that the plan does not have yet.
            target: takes the model's output and the batch, and gives the tensor that is to stay as
                the dense model has it, as a sentence's embedding. By default the logits, or the
                first output.
            seed: of the order and of the factors' beginning.
            progress: called with the steps done, their number, and what is being done.

        Returns:
            the tuned plan, with `achieved` measured on the first batches.

        Raises:
            ValueError: no batches, an unknown name in `learn`, another model, or a loss that
                becomes NaN.
            RuntimeError: a plan is applied to the model.
        """
        from sparsact.calibration.tune import tune

        return tune(
            self,
            model,
            batches,
            steps,
            learn=learn,
            lr=lr,
            rank=rank,
            target=target,
            seed=seed,
            progress=progress,
        )

    def check(self, model: nn.Module) -> None:
        """Raise ValueError unless `model` is the one that the plan was made for.

        A RuntimeError where a tuned plan is to be put into a model that has one's updates.
        """
        _check_thresholds(self.sites, self.thresholds)
        self.updates.check(model)
        inputs = {reader: site.inputs for site in self.sites for reader in site.readers}
        check_layers(model, self.samples, inputs)
        check_others(model, self.others)

    def save(self, path: str | Path) -> Path:
        """Write the plan as a directory of safetensors and JSON.

        Raises:
            OutputError: an OSError: the disk is full, or refuses; a file that stood there is whole.
        """
        folder = Path(path)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"threshold.{name}": level for name, level in self.thresholds.items()}
        tensors |= {f"sample.{name}": sample for name, sample in self.samples.items()}
        tensors |= {f"other.{name}": sample for name, sample in self.others.items()}
        tensors |= self.updates.tensors()
        write_tensors(folder / _TENSORS, tensors)
        described = {
            "sparsity": self.sparsity,
            "score": self.score,
            "allocate": self.allocate,
            "keep_first": self.keep_first,
            "achieved": self.achieved,
            "sites": [asdict(site) for site in self.sites],
        }
        write_text(folder / _DESCRIPTION, json.dumps(described, indent=2) + "\n")
        return folder

    @classmethod
    def load(cls, path: str | Path) -> "ThresholdPlan":
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no plan.
            ValueError: its files are not those that :meth:`save` writes.
        """
        folder = Path(path)
        for name in (_DESCRIPTION, _TENSORS):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} holds no {name}")
        try:
            described = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
            return cls._from(described, load_file(folder / _TENSORS))
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(
                f"{folder} holds no threshold plan that can be read ({type(error).__name__}: "
                f"{error}); sparsact calibrate writes one"
            ) from error

    @classmethod
    def _from(cls, described: dict[str, Any], tensors: dict[str, Tensor]) -> "ThresholdPlan":
        found = [
            InputSite(site["name"], tuple(site["readers"]), site["inputs"], site["outputs"])
            for site in described.pop("sites")
        ]
        thresholds = {site.name: tensors[f"threshold.{site.name}"] for site in found}
        _check_thresholds(found, thresholds)
        return cls(
            sites=tuple(found),
            thresholds=thresholds,
            samples={
                reader: tensors[f"sample.{reader}"] for site in found for reader in site.readers
            },
            others={
                name.removeprefix("other."): tensor
                for name, tensor in tensors.items()
                if name.startswith("other.")
            },
            updates=Updates.from_tensors(tensors),
            **described,
        )


class _Applied(Removable):
    """A plan at work in a model."""

    def __init__(self, plan: ThresholdPlan, model: nn.Module) -> None:
        self._simulation = Simulation(model, plan.sites, below(plan.thresholds), plan.keep_first)
        self._written = plan.updates.write(model)

    def remove(self) -> None:
        """End it."""
        self._simulation.remove()
        self._written.remove()


def _check_thresholds(sites: Iterable[InputSite], thresholds: dict[str, Tensor]) -> None:
    for site in sites:
        level = thresholds[site.name]
        if level.shape != (site.inputs,):
            raise ValueError(
                f"the thresholds of {site.name!r} must be of shape ({site.inputs},), got "
                f"{tuple(level.shape)}"
            )
        if not bool(((level >= 0) & level.isfinite()).all()):
            raise ValueError(f"the thresholds of {site.name!r} must be finite and at least 0")
