"""``sparsact calibrate``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import tyro
from rich.console import Console
from torch import Tensor

from sparsact import calibration
from sparsact._common.errors import InputError
from sparsact._common.progress import Progress
from sparsact._common.run_directory import output_directory
from sparsact.calibration.allocations import ALLOCATIONS
from sparsact.calibration.calibrate import check_sparsity
from sparsact.calibration.scores import SCORES
from sparsact.cli.progress_bar import progress
from sparsact.cli.tables import say, show
from sparsact.evaluation.site_kinds import TOTAL, kind_rows, site_rows
from sparsact.report.language.language_tables import KINDS, kind_cells
from sparsact.text import load_language_model
from sparsact.text.windows import as_batches, choose, read_rows, split

PLAN = "plan.json"
_HELD_OUT = 3  # calibration rows for each held-out row
_COMPENSATION_ROWS = 4  # for each calibration row

if TYPE_CHECKING:
    ScoreName = str
    AllocationName = str
else:
    ScoreName = tyro.extras.literal_type_from_choices(tuple(SCORES))
    AllocationName = tyro.extras.literal_type_from_choices(tuple(ALLOCATIONS))


class _Described(Protocol):
    @property
    def help(self) -> str: ...


def _described(choices: Mapping[str, _Described]) -> str:
    return "; ".join(f"{name}: {choice.help}" for name, choice in choices.items())


@dataclass(frozen=True)
class CalibrateFlags:
    """Find thresholds for the linear layers of a language model, from text."""

    model: str
    """A Hugging Face model: a directory, or a name on the hub."""
    text: tuple[str, ...]
    """Text files to calibrate on."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    sparsity: float = 0.5
    """Share of the weight bytes that is not read, at least 0 and below 1."""
    out: str = "plan"
    """Directory of the plan."""
    score: Annotated[
        ScoreName,
        tyro.conf.arg(help=f"How much an entry of a layer's input counts. {_described(SCORES)}."),
    ] = "loss"
    allocate: Annotated[
        AllocationName,
        tyro.conf.arg(help=f"How the sparsity is distributed. {_described(ALLOCATIONS)}."),
    ] = "global"
    rows: int = 6
    """Rows of tokens to calibrate on, spread evenly over the text."""
    length: int = 512
    """Tokens in a row."""
    keep_first: int = 0
    """Number of first tokens of a sequence that stay dense."""
    compensate: int = 0
    """Rank of the low-rank correction fitted to each layer, so that kept inputs compensate for
    dropped ones. Uses four times the calibration rows. 0 disables it. Costs nothing at
    inference."""
    tune: int = 0
    """Training steps, each on one row of the text, towards the dense model's predictions. They
    change norms and low-rank corrections. 0 disables it. Costs nothing at inference."""
    include: tuple[str, ...] = ("*",)
    """Globs on the names of the layers that may become sparse."""
    exclude: tuple[str, ...] = ()
    """Globs on the names of layers that stay dense. The output head always stays dense."""
    force: bool = False
    """Overwrite an existing plan."""

    def check(self) -> None:
        """Raise InputError for flags that are out of range, before the work."""
        if self.rows < 1:
            raise InputError(f"rows= must be at least 1 row, got {self.rows}")
        check_sparsity(self.sparsity)
        if self.compensate < 0:
            raise InputError(f"compensate= takes a rank, or 0 for none; got {self.compensate}")
        if self.tune < 0:
            raise InputError(f"tune= takes a number of steps, or 0 for none; got {self.tune}")
        if not self.text:
            raise InputError("text= needs a file")
        folder = Path(self.out)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: choose another out=")
        if (folder / PLAN).exists() and not self.force:
            raise InputError(
                f"{folder} holds a plan: choose another out=, or overwrite it with force="
            )


def calibrate(config: tyro.conf.OmitArgPrefixes[CalibrateFlags]) -> int:
    """Find thresholds for a language model from text, for a chosen sparsity."""
    console = Console()
    config.check()
    with progress(console) as update, output_directory(Path(config.out)):
        plan, held_out = _make_plan(config, update)
        plan.save(config.out)
    kinds = kind_rows(site_rows(plan.sites, plan.achieved))
    show(console, KINDS, map(kind_cells, kinds), picked=TOTAL)
    say(console, f"sparsity measured on {held_out} other rows of the text")
    say(console, f"plan: {config.out}")
    return 0


def _make_plan(flags: CalibrateFlags, update: Progress) -> tuple[calibration.ThresholdPlan, int]:
    """The plan, and the number of held-out rows on which its sparsity was measured."""
    update(0, 1, "loading the model")
    model, tokenizer = load_language_model(flags.model, flags.gguf)
    held_out_count = max(1, flags.rows // _HELD_OUT)
    count = flags.rows + held_out_count
    rows, held_out_rows = split(
        read_rows(model, tokenizer, flags.text, flags.length, count), held_out_count
    )
    held_out = as_batches(held_out_rows)
    plan = calibration.calibrate(
        model,
        _batches(rows, flags.rows),
        flags.sparsity,
        score=flags.score,
        allocate=flags.allocate,
        include=flags.include,
        exclude=flags.exclude,
        keep_first=flags.keep_first,
        held_out=held_out,
        progress=update,
    )
    if flags.compensate:
        batches = _batches(rows, _COMPENSATION_ROWS * flags.rows)
        plan = calibration.compensate(plan, model, batches, rank=flags.compensate, progress=update)
    if flags.tune:
        batches = _batches(rows, flags.tune)
        plan = calibration.tune(plan, model, batches, flags.tune, progress=update)
    if plan.updates:
        plan = replace(plan, achieved=plan.measure(model, held_out))
    return plan, held_out_count


def _batches(rows: Tensor, count: int) -> list[dict[str, Tensor]]:
    """At most `count` of the rows, a batch each."""
    return as_batches(choose(rows, min(count, len(rows))))
