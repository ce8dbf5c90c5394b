"""``sparsact calibrate``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import tyro
from rich.console import Console
from torch import Tensor, nn

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
from sparsact.evaluation.weight_bytes import coverage_line
from sparsact.inference import sparsify
from sparsact.inference.sparse_linear import DTYPES
from sparsact.report.language.language_tables import KINDS, kind_cells
from sparsact.text import DatasetPart, load_language_model
from sparsact.text.windows import as_batches, choose, read_rows, split

PLAN = "plan.json"
_HELD_OUT = 3  # calibration rows for each held-out row
_MANY_ROWS = 4  # for each calibration row, where a matrix is estimated

if TYPE_CHECKING:
    ScoreName = str
    AllocationName = str
    DtypeName = str
else:
    ScoreName = tyro.extras.literal_type_from_choices(tuple(SCORES))
    AllocationName = tyro.extras.literal_type_from_choices(tuple(ALLOCATIONS))
    DtypeName = tyro.extras.literal_type_from_choices(tuple(DTYPES))


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
    """Text to calibrate on: text files, files of JSON lines (.jsonl), or datasets as hf:NAME (on
    the hub, or a directory)."""
    text_config: str | None = None
    """Configuration of the dataset, if it has several."""
    text_split: str = "train"
    """Split of the dataset."""
    text_column: str = "text"
    """Column of the dataset, or field of the JSON lines, that holds the text."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    trust_remote_code: bool = False
    """Run the model's own code, if it comes with some."""
    device: str = "cpu"
    """Where the model is calibrated, such as cuda."""
    offload: bool = False
    """Leave the weights of the blocks in their files, and read each layer when it runs: for models
    larger than memory. Slow. With --score weight or magnitude, only the layer that runs is in
    memory."""
    sparsity: float = 0.5
    """Share of the weight bytes that is not read, at least 0 and below 1."""
    sparsity_of: tuple[str, ...] = ()
    """Shares for patterns of layers' names instead, as '*.mlp.*=0.6' '*.self_attn.*=0.3'. The first
    pattern that matches counts; other layers stay dense."""
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
    """Overwrite an existing plan or exported model."""
    export: str | None = None
    """Directory for the sparse model, with its plan and tokenizer: transformers loads it after
    import sparsact, and sparsact bench measures it."""
    dtype: DtypeName = "int8"
    """Stored dtype of the exported model's weights."""
    keep_dense: bool = False
    """Also save the dense model, in the directory dense of the exported one."""

    def check(self) -> None:
        """Raise InputError for flags that are out of range, before the work."""
        if self.rows < 1:
            raise InputError(f"rows= must be at least 1 row, got {self.rows}")
        for share in self.shares.values() if isinstance(self.shares, dict) else [self.shares]:
            check_sparsity(share)
        if self.compensate < 0:
            raise InputError(f"compensate= takes a rank, or 0 for none; got {self.compensate}")
        if self.tune < 0:
            raise InputError(f"tune= takes a number of steps, or 0 for none; got {self.tune}")
        if not self.text:
            raise InputError("text= needs a file")
        if self.offload and (self.compensate or self.tune or self.export is not None):
            raise InputError("offload= cannot be used with compensate=, tune= or export=")
        folder = Path(self.out)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file: choose another out=")
        if (folder / PLAN).exists() and not self.force:
            raise InputError(
                f"{folder} holds a plan: choose another out=, or overwrite it with force="
            )
        if self.keep_dense and self.export is None:
            raise InputError("keep_dense= needs export=")
        if self.export is not None and Path(self.export).exists() and not self.force:
            raise InputError(
                f"{self.export} exists already: choose another export=, or overwrite it with force="
            )

    @property
    def shares(self) -> float | dict[str, float]:
        """The sparsity, or those of the patterns.

        Raises:
            InputError: a pattern has no share.
        """
        if not self.sparsity_of:
            return self.sparsity
        shares = {}
        for pair in self.sparsity_of:
            glob, _, share = pair.rpartition("=")
            try:
                shares[glob] = float(share)
            except ValueError:
                glob = ""
            if not glob:
                raise InputError(
                    f"sparsity_of= takes PATTERN=SHARE, such as '*.mlp.*=0.6'; got {pair!r}"
                )
        return shares


def calibrate(config: tyro.conf.OmitArgPrefixes[CalibrateFlags]) -> int:
    """Find thresholds for a language model from text, for a chosen sparsity."""
    console = Console()
    config.check()
    with progress(console) as update, output_directory(Path(config.out)):
        update(0, 1, "loading the model")
        model, tokenizer = load_language_model(
            config.model,
            config.gguf,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            device=config.device,
            offload=config.offload,
        )
        rows, held_out = _read(config, model, tokenizer)
        plan = _make_plan(config, model, rows, held_out, update)
        plan.save(config.out)
        coverage = coverage_line(model, plan.sites)
        if config.export is not None:
            update(0, 1, "exporting the sparse model")
            _export(config, model, tokenizer, plan, rows)
    kinds = kind_rows(site_rows(plan.sites, plan.achieved))
    show(console, KINDS, map(kind_cells, kinds), picked=TOTAL)
    say(console, f"sparsity measured on {len(held_out)} other rows of the text; {coverage}")
    say(console, f"plan: {config.out}")
    if config.export is not None:
        say(console, f"sparse model, {config.dtype}: {config.export}")
    return 0


def _export(
    flags: CalibrateFlags,
    model: Any,
    tokenizer: Any,
    plan: calibration.ThresholdPlan,
    rows: Tensor,
) -> None:
    """Save the sparse model with its tokenizer, and the dense one within.

    Weights of 4 bits are rounded for the least error on the rows.
    """
    assert flags.export is not None
    folder = Path(flags.export)
    dense = folder / "dense" if flags.keep_dense else None
    batches = _batches(rows, _MANY_ROWS * flags.rows) if flags.dtype == "int4" else None
    with output_directory(folder):
        sparse: Any = sparsify(model.cpu(), plan, flags.dtype, batches=batches, keep_dense=dense)
        sparse.save_pretrained(folder)
        for place in (folder, dense):
            if place is not None:
                tokenizer.save_pretrained(place)


def _read(flags: CalibrateFlags, model: nn.Module, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """The rows of the text, and those that are held out for the sparsity that is reported."""
    held_out_count = max(1, flags.rows // _HELD_OUT)
    count = flags.rows + held_out_count
    part = DatasetPart(flags.text_config, flags.text_split, flags.text_column)
    return split(read_rows(model, tokenizer, flags.text, flags.length, count, part), held_out_count)


def _make_plan(
    flags: CalibrateFlags, model: nn.Module, rows: Tensor, held_out_rows: Tensor, update: Progress
) -> calibration.ThresholdPlan:
    held_out = as_batches(held_out_rows)
    plan = calibration.calibrate(
        model,
        _batches(rows, flags.rows),
        flags.shares,
        score=flags.score,
        allocate=flags.allocate,
        include=flags.include,
        exclude=flags.exclude,
        keep_first=flags.keep_first,
        held_out=held_out,
        progress=update,
    )
    if flags.compensate:
        batches = _batches(rows, _MANY_ROWS * flags.rows)
        plan = calibration.compensate(plan, model, batches, rank=flags.compensate, progress=update)
    if flags.tune:
        batches = _batches(rows, flags.tune)
        plan = calibration.tune(plan, model, batches, flags.tune, progress=update)
    if plan.updates:
        plan = replace(plan, achieved=plan.measure(model, held_out))
    return plan


def _batches(rows: Tensor, count: int) -> list[dict[str, Tensor]]:
    """At most `count` of the rows, a batch each."""
    return as_batches(choose(rows, min(count, len(rows))))
