"""What the command line is told about a language model: dataclasses that are the flags."""

from dataclasses import dataclass
from typing import Literal

Dense = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class CalibrateConfig:
    """Find thresholds for the linear layers of a language model, from text."""

    model: str
    """A Hugging Face model: a directory, or a name on the hub."""
    text: tuple[str, ...]
    """Text files that it is calibrated on."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    sparsity: float = 0.5
    """Share of the weight bytes that is not to be read, from 0 to below 1."""
    out: str = "plan"
    """Directory of the plan."""
    score: Literal["loss", "weight", "magnitude"] = "loss"
    """What an entry of a layer's input counts: by the gradient of the loss, the norm of its
    weights (WINA), or itself (TEAL)."""
    allocate: Literal["global", "block", "uniform"] = "global"
    """How the sparsity is shared out: over the whole network, within each block, or evenly."""
    rows: int = 6
    """Rows of tokens that it is calibrated on, spread evenly over the text."""
    length: int = 512
    """Tokens in a row."""
    keep_first: int = 0
    """First tokens of a sequence that are left dense."""
    compensate: int = 0
    """Rank of an addition to the weight of each layer by which the inputs that stay make up for
    those that are left out, as four times the rows tell; 0: none. It costs nothing later."""
    tune: int = 0
    """Steps of training, each on a row of the text, towards the dense model's predictions; 0:
    none. It learns the norms and such additions, and costs nothing later."""
    include: tuple[str, ...] = ("*",)
    """Globs on the names of the layers that may become sparse."""
    exclude: tuple[str, ...] = ()
    """Globs on the names of those that stay dense; the output head does in any case."""
    force: bool = False
    """Overwrite a plan that is there."""


@dataclass(frozen=True)
class BenchConfig:
    """Measure a plan: perplexity, sparsity and time a token, beside the dense model."""

    model: str
    """The model that was calibrated: a directory, or a name on the hub."""
    plan: str
    """Directory that sparsact calibrate wrote."""
    gguf: str | None = None
    """File of the model, if its weights are in that format."""
    text: tuple[str, ...] = ()
    """Text files other than those of the calibration; by default half of the paragraphs of Python's
    own reference."""
    dtype: Literal["bfloat16", "float32", "int8"] = "bfloat16"
    """In which the weights of the sparse layers are stored."""
    dense: tuple[Dense, ...] = ("float32", "bfloat16")
    """What it is beside; the first is what perplexity is compared with, and the dtype of the
    sparse model's activations."""
    windows: int = 16
    """Windows of text for the perplexity, spread evenly over it."""
    length: int = 512
    """Tokens in a window."""
    prompt: int = 64
    """Tokens before the first that is timed."""
    tokens: int = 32
    """Tokens decoded in a round."""
    rounds: int = 5
    """Rounds in which all models decode these tokens, in turn."""
    curve: tuple[float, ...] = ()
    """Calibrate at these sparsities too, as the plan was, for perplexity against sparsity."""
    calibration_text: tuple[str, ...] = ()
    """Text files for that."""
    calibration_rows: int = 6
    """Rows of tokens for that."""
    out: str | None = None
    """Directory of the report; by default runs/bench-MODEL-TIME."""
