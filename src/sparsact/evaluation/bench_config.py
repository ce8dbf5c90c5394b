"""The settings of a bench."""

from dataclasses import dataclass
from typing import Literal

from sparsact._common.errors import InputError
from sparsact.calibration.calibrate import check_sparsity
from sparsact.evaluation.decoding_time import SETTLING

Dense = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class BenchConfig:
    """Measure a plan: perplexity, sparsity and time per token, compared with the dense model."""

    model: str = ""
    """The model that was calibrated: a directory, or a name on the Hugging Face hub. Without a
    plan, a sparse model that sparsact calibrate exported."""
    plan: str | None = None
    """Directory that sparsact calibrate wrote, or a name on the hub."""
    dense_model: str | None = None
    """The dense model of an exported sparse one. The default is the one kept beside it, or the one
    it was made from."""
    gguf: str | None = None
    """File of the dense model, if its weights are in that format."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    trust_remote_code: bool = False
    """Run the model's own code, if it comes with some."""
    device: str = "cpu"
    """Where the models run. Skipping saves time on a CPU only."""
    text: tuple[str, ...] = ()
    """Text to measure on, other than that of the calibration: text files, files of JSON lines
    (.jsonl), or datasets as hf:NAME. The default is half of the paragraphs of Python's own
    reference."""
    text_config: str | None = None
    """Configuration of the dataset, if it has several."""
    text_split: str = "test"
    """Split of the dataset."""
    text_column: str = "text"
    """Column of the dataset, or field of the JSON lines, that holds the text."""
    dtype: Literal["bfloat16", "float32", "int8", "int4"] = "bfloat16"
    """Stored dtype of the weights of the sparse layers."""
    dense: tuple[Dense, ...] = ("float32", "bfloat16")
    """Dense baselines. Perplexity is compared with the first, whose dtype is also that of the
    sparse model's activations."""
    windows: int = 16
    """Windows of text for the perplexity, spread evenly over the text."""
    length: int = 512
    """Tokens in a window."""
    prompt: int = 64
    """Tokens before the first timed one."""
    tokens: int = 32
    """Tokens decoded in a round."""
    rounds: int = 5
    """Rounds in which all models decode these tokens, in turn."""
    curve: tuple[float, ...] = ()
    """More sparsities to calibrate at, in the same way as the plan, for a curve of perplexity
    against sparsity. Needs calibration text."""
    calibration_text: tuple[str, ...] = ()
    """Text files for the calibrations of the curve."""
    calibration_rows: int = 6
    """Rows of tokens for each calibration of the curve."""
    tasks: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness, such as hellaswag, for the dense and the sparse model. Needs
    the extra eval."""
    task_limit: int | None = None
    """Examples of each task; the default is all."""
    out: str | None = None
    """Directory of the report. The default is runs/bench-MODEL-TIME."""

    def check(self) -> None:
        """Raise InputError unless the settings fit together."""
        if not self.model:
            raise InputError(
                "model= is needed: a model with its plan=, or an exported sparse model"
            )
        if self.dense_model is not None and self.plan is not None:
            raise InputError("dense_model= is for an exported sparse model, without plan=")
        for name, least in (
            ("windows", 1), ("prompt", 1), ("tokens", 3), ("rounds", 1), ("calibration_rows", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise InputError(f"{name}= must be at least {least}, got {getattr(self, name)}")
        timings = (self.tokens - SETTLING) * self.rounds
        if timings < 2:
            raise InputError(
                f"only {timings} timing per model would be taken, because the first {SETTLING} "
                "tokens of a round do not count: raise tokens= or rounds="
            )
        if not self.dense or len(set(self.dense)) < len(self.dense):
            raise InputError("dense= needs one dtype or two different ones")
        if self.prompt > self.length:
            raise InputError(
                f"prompt={self.prompt} is longer than a window of length={self.length}: choose a "
                "shorter prompt"
            )
        for sparsity in self.curve:
            check_sparsity(sparsity)
        if bool(self.curve) != bool(self.calibration_text):
            raise InputError("curve= and calibration_text= need each other")
        if self.task_limit is not None and (self.task_limit < 1 or not self.tasks):
            raise InputError("task_limit= is a number of examples of each of tasks=")

    @property
    def is_exported(self) -> bool:
        """Whether the sparse model itself was saved, and is its own plan."""
        return self.plan == self.model
