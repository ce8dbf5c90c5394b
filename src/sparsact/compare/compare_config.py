"""The arguments of a comparison."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CompareConfig:
    """Train the same network with each activation on the same data, and compare."""

    data: str = "digits"
    """digits, breast_cancer, diabetes, a .npz (x, y), a table (.csv, .tsv, .txt, these
    compressed, .parquet, .xlsx), a folder of images with one sub-folder per class, or
    a .py that defines a network."""
    target: str | None = None
    """Column of a table to predict; several, separated by commas, are regressed together."""
    ignore: str | None = None
    """Columns of a table to leave out, separated by commas."""
    categories: str | None = None
    """Columns of a table whose numbers are categories, separated by commas."""
    missing: str | None = None
    """Words that stand for a missing cell, separated by commas, besides the usual ones."""
    decimal: Literal["auto", "point", "comma"] = "auto"
    """Decimal mark of a table; auto looks at its cells."""
    header: Literal["auto", "yes", "no"] = "auto"
    """Whether the first row of a table names its columns; auto looks at the first rows."""
    split: str | None = None
    """Column, or file with a row for each, that says train, validation or test."""
    group: str | None = None
    """Column of a table whose groups are never split."""
    time: str | None = None
    """Column of a table that orders its rows; the last ones are the test part."""
    task: Literal["auto", "classify", "regress", "reconstruct"] = "auto"
    """What to learn; auto infers it from the target."""
    loss: Literal["mse", "smooth_l1"] = "mse"
    """Loss of regress and reconstruct."""
    image_size: int = 32
    """Side in pixels; the images of a folder are resized to such squares."""
    activations: str = "all"
    """Comma-separated names, or all. ReLU is always trained, as the reference."""
    model: Literal["auto", "mlp", "convnet", "resnet", "transformer"] = "auto"
    """Built-in network; auto is a small convolutional net for images, else an MLP."""
    hidden: str = "256,128"
    """Widths of the hidden layers of the MLP; convnet and resnet use the last of them."""
    lambd: float = 0.5
    """λ of the thresholds; the initial λ where it is trained."""
    topk: float = 0.1
    """Share of the units of each layer that topk keeps."""
    penalty: str | None = None
    """Penalty on the activations, per sample: kind and coefficient, such as l1=1e-4."""
    weight_penalty: str | None = None
    """Penalty on the weights, in the same form."""
    sweep: str | None = None
    """Train each value of a logarithmic grid of λ or of a penalty's coefficient,
    such as lambd=0.01:1:6 or l1=1e-6:1e-2:6."""
    target_density: float | None = None
    """Find the λ, k or penalty strength with this share of non-zero activations."""
    frontier: int | None = None
    """Trace so many points, from dense to sparse, by one training per activation and seed, whose
    λ, k or penalty changes step by step."""
    epochs: int = 30
    """Passes over the training part."""
    batch_size: int = 64
    """Samples per step."""
    lr: float | Literal["auto"] = 1e-3
    """Learning rate; auto searches one for each setting, by trainings from seed 0."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimizer; sgd has momentum 0.9."""
    clip_grad: float | None = None
    """Clip the norm of the gradient of all parameters to this."""
    seeds: int = 3
    """Trainings per setting, from seeds 0, 1, …"""
    device: str = "cpu"
    """Where to train."""
    out: str | None = None
    """Run directory; by default runs/compare-DATA-TIME."""
    resume: str | None = None
    """Continue the interrupted run in this directory, with its settings; jobs and backend may be
    others."""
    score: str = "auto"
    """What to compare by: accuracy, balanced_accuracy, f1, auc, log_loss, r2, mae or loss. auto is
    balanced_accuracy if a class is rare, accuracy, or r2. Losses are negated."""
    jobs: int = 1
    """Trainings at the same time, each in a process of its own."""
    backend: Literal["loky", "dask", "ray"] = "loky"
    """Where these processes are: on this machine, or in a cluster of dask or ray (extras)."""
    tolerance: float = 0.01
    """The choice is the sparsest setting whose validation score is at most this
    much below the best."""
