"""The comparison of activations in a network of the user, in one call."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from sparsact._common.errors import InputError
from sparsact._common.progress import Progress, silent
from sparsact.compare.compare_config import CompareConfig
from sparsact.compare.problems.model_problem import UserTask, model_problem
from sparsact.compare.problems.problem import Problem
from sparsact.compare.results.comparison_directory import ComparisonDirectory
from sparsact.compare.results.comparison_result import ComparisonResult
from sparsact.compare.saved_model import with_encoding
from sparsact.compare.settings.own_activations import Choice, Factory, chosen_activations
from sparsact.compare.settings.training_plan import make_plan
from sparsact.compare.training.engine import Engine, Outcome, trained_network
from sparsact.hooks import CallSelector
from sparsact.penalties import Penalty


def compare_activations(
    build: Callable[[], nn.Module],
    train: Any,
    validation: Any,
    *,
    epochs: int,
    test: Any = None,
    activations: str | Factory | Iterable[Choice] | Mapping[str, Factory] = "all",
    select: CallSelector | Iterable[CallSelector] | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    score: str | Callable[[Tensor, Tensor], Any] | None = None,
    optimizer: str | Callable[[Iterator[nn.Parameter]], Any] | None = None,
    lr: Any = CompareConfig.lr,
    batch_size: int = CompareConfig.batch_size,
    clip_grad: float | None = None,
    seeds: int = CompareConfig.seeds,
    lambd: float = CompareConfig.lambd,
    topk: float = CompareConfig.topk,
    penalty: str | Penalty | None = None,
    sweep: str | None = None,
    target_density: float | None = None,
    frontier: int | None = None,
    tolerance: float = CompareConfig.tolerance,
    target: str | None = None,
    name: str | None = None,
    device: str = CompareConfig.device,
    jobs: int = 1,
    backend: Literal["loky", "dask", "ray"] = CompareConfig.backend,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> ComparisonResult:
    """Train your network with each activation from the same weights, and compare.

    Every activation that is found in the network is exchanged, modules and functions such as
    ``F.relu`` alike (:func:`sparsact.activations` lists them). Left alone, unless `select` names
    them, are gates (sigmoid, glu) and an activation that makes the output of the network. For one
    seed, all settings start from the same weights and see the same batches; only thresholds differ.
    Before the first training, everything is tried once, so mistakes are found early.

    Args:
        build: makes a new model, with weights from torch's generator: any module, also one of
            transformers, or one in the manner of Lightning. For raw data frames it may take one
            argument, the number of features.
        train: arrays ``(x, y)``, tensors or of numpy; a dict of them; a data frame with `target`,
            or ``(frame, y)``: if a column is no number, or has missing cells, all columns are
            encoded and standardised as the command line does, and `best` takes raw frames;
            a Dataset, a DataLoader, or any iterable of batches that can be read again. A batch is
            a tensor (then it is its own target), a tuple of inputs and the target, or a dict of
            keyword inputs, in which ``labels`` or ``target`` is the target.
        validation: the part on which choices are made, in any of these forms.
        epochs: passes over `train`.
        test: the part on which results are measured; by default `validation`, and a note says so.
        activations: ``"all"``, names, classes, factories, or a mapping from names to factories.
            ``"package.module:Class"`` is imported. A factory takes nothing, or one argument with
            the attributes ``channels`` and ``channel_dim`` of the place. ReLU is always trained.
        select: the calls to exchange, as in :func:`sparsact.swap`; one selector or several.
        loss: takes the output of the model and the target, returns a scalar. By default that of
            ``training_step``, or the one that the model returns, or cross-entropy for integer
            targets and the squared error for others.
        score: a name (accuracy, balanced_accuracy, f1, auc, log_loss, r2, mae, loss), or a function
            of all predictions and all targets; higher is better. By default accuracy, balanced
            if a class is rare; R²; or the loss, negated.
        optimizer: ``"adam"``, ``"adamw"``, ``"sgd"``, or a function of the parameters that returns
            an optimizer, or also schedulers, in the forms of Lightning. By default that of
            ``configure_optimizers`` if the model has one, else Adam.
        lr: the learning rate of a named optimizer; ``"auto"`` searches one for each setting.
        batch_size: of arrays and Datasets.
        clip_grad: clip the norm of the gradient of all parameters to this.
        seeds: trainings per setting.
        lambd: λ of the thresholds; the initial λ where it is trained.
        topk: share of the channels that topk keeps.
        penalty: on the activations, per sample: ``"l1=1e-4"`` or a penalty.
        sweep: train each value of a grid, such as ``"lambd=0.01:1:6"`` or ``"l1=1e-6:1e-2:6"``.
        target_density: find the λ, k or penalty with this share of non-zero activations.
        frontier: trace so many points for each activation, from dense to sparse. One training per
            seed makes them: its λ, k or penalty changes step by step, for a few epochs each.
        tolerance: the choice is the sparsest setting whose validation score is at most this much
            below the best.
        target: the column of a data frame to predict.
        name: of the model, in titles.
        device: where to train.
        jobs: trainings at the same time, each in a process of its own.
        backend: where these processes are: ``"loky"``, on this machine; ``"dask"``, the workers of
            the client that exists, else new ones here; ``"ray"``, the cluster that is connected,
            else a new one here.
        out: a directory that keeps the report, all weights and one line per training.
        resume: continue the interrupted comparison in `out`, which had the same arguments, except
            `jobs` and `backend`.
        progress: called with epochs done, all epochs, and what is running.

    Returns:
        the result. It is partial after a KeyboardInterrupt, which is not raised.

    Raises:
        ValueError: something cannot be used; an exception of your own code is its cause.

    Example:
        >>> import torch
        >>> import sparsact as sa
        >>> x = torch.randn(80, 4)
        >>> y = (x[:, 0] > 0).long()
        >>> result = sa.compare_activations(
        ...     lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
        ...     (x[:60], y[:60]),
        ...     (x[60:], y[60:]),
        ...     activations=["softshrink", nn.ELU],
        ...     epochs=2,
        ...     seeds=1,
        ... )
        >>> list(result.table.index)
        ['relu', 'softshrink λ=0.5', 'ELU', 'most frequent class']
        >>> result.best(x).shape
        torch.Size([80, 2])
    """
    own = chosen_activations(activations)
    config = CompareConfig(
        data=name or "your model",
        activations=",".join(own),
        epochs=epochs,
        seeds=seeds,
        lambd=lambd,
        topk=topk,
        penalty=None if penalty is None else str(penalty),
        sweep=sweep,
        target_density=target_density,
        frontier=frontier,
        tolerance=tolerance,
        batch_size=batch_size,
        lr=lr,
        optimizer=_optimizer_name(optimizer),
        clip_grad=clip_grad,
        score=score if isinstance(score, str) else "auto",
        device=device,
        jobs=jobs,
        backend=backend,
    )
    plan = make_plan(config, own, penalty if isinstance(penalty, Penalty) else None)
    task = UserTask(
        build=build,
        train=train,
        validation=validation,
        test=test,
        select=select,
        loss=loss,
        score=score,
        optimizer=optimizer,
        target=target,
        name=name,
    )
    problem = model_problem(plan, task)
    place = nullcontext(str(out)) if out else tempfile.TemporaryDirectory(prefix="sparsact-")
    with place as folder:
        run = _run_directory(Path(folder), config, problem, resume and bool(out))
        engine = Engine(plan, problem, run, writes_report=bool(out))
        outcome = engine.execute(progress)
        best = _trained(outcome, problem, run)
    return ComparisonResult(outcome.report, best, outcome.complete, Path(folder) if out else None)


def _optimizer_name(optimizer: Any) -> Any:
    names = ("adam", "adamw", "sgd")
    if optimizer is None or callable(optimizer):
        return CompareConfig.optimizer
    if optimizer not in names:
        raise InputError(
            f"optimizer= is a function or one of {', '.join(names)}, got {optimizer!r}"
        )
    return optimizer


def _run_directory(
    path: Path, config: CompareConfig, problem: Problem, resume: bool
) -> ComparisonDirectory:
    if not resume:
        return ComparisonDirectory.create(path, config, problem.fingerprint)
    run = ComparisonDirectory.open(path)
    if replace(run.config, jobs=config.jobs, backend=config.backend) != config:
        raise InputError(f"resume= needs the arguments with which {path} began; they differ")
    run.check_data(problem.fingerprint)
    return run


def _trained(outcome: Outcome, problem: Problem, run: ComparisonDirectory) -> nn.Module | None:
    """The chosen model with its weights, in eval mode."""
    if outcome.best is None:
        return None
    model = trained_network(problem, run, outcome.best.setting, outcome.best.record)
    return with_encoding(model, problem.encoding)
