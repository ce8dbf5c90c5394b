"""The records of a bench's report, from its measurements."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparsact.calibration import ThresholdPlan
from sparsact.evaluation.bench_config import BenchConfig
from sparsact.evaluation.perplexity import perplexity, perplexity_ratio
from sparsact.evaluation.site_kinds import kind_rows, site_rows
from sparsact.report.language.language_records import DecodeRow, LanguageReport, QualityRow


@dataclass(frozen=True)
class Level:
    """A point of the curve: its target sparsity, its measured sparsity and its losses."""

    sparsity: float
    achieved: float
    losses: Tensor


@dataclass(frozen=True)
class Findings:
    """What a bench measured.

    Attributes:
        dense: losses of the dense model, (windows,).
        sparse: losses of the sparse model, (windows,).
        curve: other sparsities.
        achieved: sparsity of each site.
        times: milliseconds per token of each model, by label.
        weight_bytes: bytes of weights that each model reads for a token, by label.
        layer_error: the largest relative distance of a sparse layer's output from the simulation.
        share_of_sites: share of the bytes read for a dense token that the plan's sites hold.
        dense_layers: layers of the sparse model that are dense, by their place in a block.
        has_experts: whether the model has experts, some of which process a token.
        tasks: lines about the scores on tasks.
    """

    dense: Tensor
    sparse: Tensor
    curve: Sequence[Level]
    achieved: Mapping[str, float]
    times: Mapping[str, list[float]]
    weight_bytes: Mapping[str, int]
    layer_error: float
    share_of_sites: float
    dense_layers: tuple[str, ...]
    has_experts: bool
    tasks: Sequence[str] = ()


def make_report(
    config: BenchConfig, plan: ThresholdPlan, sparse: str, findings: Findings
) -> LanguageReport:
    """The records of one bench.

    Args:
        config: the settings.
        plan: the plan that was measured.
        sparse: the label of the sparse model.
        findings: the measurements of all models.
    """
    measured = replace(plan, achieved=dict(findings.achieved))
    sites = site_rows(plan.sites, findings.achieved)
    quality = _quality(f"dense {config.dense[0]}", sparse, measured, findings)
    decode = _decode(sparse, findings)
    return LanguageReport(
        title=f"{Path(config.model).name}: {measured.achieved_sparsity:.0%} of the weights of "
        "its sites not read",
        facts=_facts(config, plan, findings),
        conclusion=_conclusion(sparse, quality, decode, findings.share_of_sites),
        quality=quality,
        decode=decode,
        kinds=kind_rows(sites),
        sites=sites,
    )


def _quality(
    dense: str, sparse: str, plan: ThresholdPlan, findings: Findings
) -> tuple[QualityRow, ...]:
    rows = [QualityRow(dense, 0.0, perplexity(findings.dense), None)]

    def add(label: str, achieved: float, losses: Tensor, apart: bool) -> None:
        ratio = perplexity_ratio(losses, findings.dense)
        rows.append(QualityRow(label, achieved, perplexity(losses), ratio, apart))

    add(sparse, plan.achieved_sparsity, findings.sparse, bool(plan.updates))
    for level in findings.curve:
        add(f"calibrated at {level.sparsity:.0%}", level.achieved, level.losses, False)
    return tuple(rows)


def _decode(sparse: str, findings: Findings) -> tuple[DecodeRow, ...]:
    medians = {label: statistics.median(times) for label, times in findings.times.items()}
    best = min(ms for label, ms in medians.items() if label != sparse)
    rows = []
    for label, times in findings.times.items():
        low, _, high = statistics.quantiles(times, n=4, method="inclusive")
        rows.append(
            DecodeRow(
                label=label,
                ms=medians[label],
                low=low,
                high=high,
                weight_bytes=findings.weight_bytes[label],
                speed=best / medians[label],
            )
        )
    return tuple(rows)


def _facts(config: BenchConfig, plan: ThresholdPlan, findings: Findings) -> tuple[str, ...]:
    text = ", ".join(config.text) or "every second topic of Python's reference"
    error = (
        "; ± is the standard error over windows, for ratios of the ratio in each window"
        if config.windows > 1
        else ""
    )
    facts = [
        f"model: {config.model}",
        _plan_fact(config, plan),
        f"text: {text}; {_count(config.windows, 'window')} of {config.length} tokens spread over "
        f"it{error}",
        f"sparsity: measured on all tokens of {_count(min(4, config.windows), 'window')}; it is a "
        "share of the weights of the plan's sites, which are "
        f"{findings.share_of_sites:.0%} of what a dense token reads",
        f"decode: batch 1, {_count(config.rounds, 'round')} of {config.tokens} tokens after a "
        f"prompt of {config.prompt}, in turn in one process, "
        f"{_count(torch.get_num_threads(), 'thread')}, torch {torch.__version__}; median; weights "
        "of embeddings do not count as read"
        + ("; all experts count, although a token uses only some" if findings.has_experts else ""),
        "outputs of the timed sparse layers differ from the simulation on the same inputs by at "
        f"most {findings.layer_error:.2g} of their norm",
    ]
    if findings.dense_layers and config.dense[0] != config.dtype:
        facts.append(
            f"the sparse model was made from the {config.dense[0]} model; layers outside of the "
            f"plan stay {config.dense[0]}: {', '.join(findings.dense_layers)}"
        )
    if findings.curve:
        facts.append(
            "other sparsities are simulated in the dense model, recalibrated on "
            f"{', '.join(config.calibration_text)}"
        )
    return (*facts, *findings.tasks)


def _plan_fact(config: BenchConfig, plan: ThresholdPlan) -> str:
    dense = plan.keep_first
    return (
        f"plan: {config.plan}, calibrated for {plan.sparsity:.0%} with the score {plan.score} and "
        f"the allocation {plan.allocate}"
        + (f", the first {_count(dense, 'token')} dense" if dense else "")
        + (", compensated or tuned: weights are changed too" if plan.updates else "")
    )


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _conclusion(
    sparse: str, quality: Sequence[QualityRow], decode: Sequence[DecodeRow], share: float
) -> str:
    cost = next(row for row in quality if row.label == sparse)
    gain = next(row for row in decode if row.label == sparse)
    assert cost.ratio is not None
    return (
        f"With {cost.sparsity:.1%} of its sites' weights skipped, a token takes {gain.ms:.1f} ms, "
        f"{gain.speed:.2f} times as fast as the best dense model, and perplexity is "
        f"{cost.ratio.value:.3f} times that of the dense model. Its sites are {share:.0%} of what "
        "a dense token reads."
    )
