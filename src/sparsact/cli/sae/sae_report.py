"""``sparsact sae report``."""

from dataclasses import asdict, dataclass
from typing import Literal

import tyro
from rich.console import Console

from sparsact.cli.progress_bar import progress
from sparsact.cli.sae.figures import show_line
from sparsact.sae.data.activation_source import DType
from sparsact.sae.reporting import write_report
from sparsact.sae.reporting.report_writing import DashboardChoice


@dataclass(frozen=True)
class ShownIn:
    """The model and the text in which latents are shown. The default is those of the run."""

    model: str | None = None
    """A Hugging Face model: a directory, or a name on the hub."""
    gguf: str | None = None
    """File in the model's directory, for weights in GGUF format."""
    layer: str | None = None
    """Name of the module whose output the autoencoder reads, such as model.layers.15."""
    site: Literal["output", "input"] | None = None
    """Whether the output of the module is read, or its input."""
    device: str | None = None
    """Device of the model."""
    dtype: DType | None = None
    """Dtype of the model's weights."""
    text: tuple[str, ...] = ()
    """Text for the model: text files, or datasets as hf:NAME (on the hub, or a directory)."""
    text_config: str | None = None
    """Configuration of the dataset, if it has several."""
    text_split: str | None = None
    """Split of the dataset."""
    text_column: str | None = None
    """Column of the dataset that holds the text."""
    max_tokens: int | None = None
    """Largest number of tokens to read. Required for a dataset, which is streamed."""
    length: int | None = None
    """Tokens in a row."""
    batch_rows: int | None = None
    """Rows of tokens in a forward of the model."""
    cache: str | None = None
    """Directory for the model's activations. By default only those of the run are kept."""


@dataclass(frozen=True)
class Report:
    """Write the report of a run: its curves, and dashboards that show when latents fire."""

    path: tyro.conf.Positional[str]
    """Directory of the run, or of an autoencoder by itself."""
    shown_in: ShownIn = ShownIn()
    most: int = 20
    """Number of dashboards of the most active latents."""
    sample: int = 20
    """Number of dashboards of other latents, drawn at random."""
    latents: tuple[int, ...] = ()
    """Indices of latents that also get a dashboard."""
    contexts: int = 10
    """Passages of the text in each dashboard."""
    seed: int = 0
    """Seed of the random sample."""
    against: str | None = None
    """Another autoencoder of the same width, of a run or of any library, to compare with."""
    neuronpedia: str | None = None
    """Directory for the dashboards as JSON that SAEDashboard writes and Neuronpedia imports."""
    prompts: str | None = None
    """File for prompts that ask a language model to explain the latents, as JSON lines."""
    check: bool = True
    """Refuse a model or layer on which the autoencoder was not trained."""
    out: str | None = None
    """The file. By default report.html in the directory."""


def run_report(command: Report, console: Console) -> None:
    """Write the page, and print its name."""
    changes = asdict(command.shown_in).items()
    with progress(console) as update:
        page = write_report(
            command.path,
            choice=DashboardChoice(
                command.most, command.sample, command.latents, command.contexts, command.seed
            ),
            source={name: value for name, value in changes if value not in (None, ())},
            out=command.out,
            against=command.against,
            neuronpedia=command.neuronpedia,
            prompts=command.prompts,
            progress=update,
            check=command.check,
        )
    show_line(console, f"report: {page}")
