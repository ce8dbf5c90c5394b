"""What was measured, as the report's records."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparsact.calibration import ThresholdPlan
from sparsact.llm.config import BenchConfig
from sparsact.llm.kinds import kind_rows, site_rows
from sparsact.llm.perplexity import perplexity, perplexity_ratio
from sparsact.report.language.records import DecodeRow, LanguageReport, QualityRow


@dataclass(frozen=True)
class Level:
    """Another sparsity that was calibrated: what was asked, what it came to, and its losses."""

    sparsity: float
    achieved: float
    losses: Tensor


@dataclass(frozen=True)
class Findings:
    """What was measured.

    Attributes:
        dense: losses of the dense model, (windows,).
        sparse: of the sparse one.
        curve: other sparsities.
        achieved: sparsity of each site.
        times: milliseconds a token of each model, by label.
        weight_bytes: read for a token, likewise.
        apart: how far a sparse layer's output is at most from the simulation's on its input.
        share: of what a token reads of the dense model that belongs to the plan's sites.
        left: layers of the sparse model that are dense, by their place in a block.
        experts: whether the model has some, of which a token uses a few.
    """

    dense: Tensor
    sparse: Tensor
    curve: Sequence[Level]
    achieved: Mapping[str, float]
    times: Mapping[str, list[float]]
    weight_bytes: Mapping[str, int]
    apart: float
    share: float
    left: tuple[str, ...]
    experts: bool


def make_report(
    config: BenchConfig, plan: ThresholdPlan, sparse: str, findings: Findings
) -> LanguageReport:
    """The records of one bench.

    Args:
        config: the flags.
        plan: what was measured.
        sparse: the label of the sparse model.
        findings: of it and the dense ones.
    """
    found = replace(plan, achieved=dict(findings.achieved))
    sites = site_rows(plan.sites, findings.achieved)
    quality = _quality(f"dense {config.dense[0]}", sparse, found, findings)
    decode = _decode(sparse, findings)
    return LanguageReport(
        title=f"{Path(config.model).name}: {found.achieved_sparsity:.0%} of the weights of "
        "its sites not read",
        facts=_facts(config, plan, findings),
        conclusion=_conclusion(sparse, quality, decode),
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
        "; ± is the standard error over windows, of the ratio window by window"
        if config.windows > 1
        else ""
    )
    facts = [
        f"model: {config.model}",
        _plan_fact(config, plan),
        f"text: {text}; {_count(config.windows, 'window')} of {config.length} tokens spread over "
        f"it{error}",
        f"sparsity: on {min(4, config.windows)} of these windows, all tokens; of the weights of "
        f"the plan's sites, which are {findings.share:.0%} of what a dense token reads",
        f"decode: batch 1, {_count(config.rounds, 'round')} of {config.tokens} tokens after a "
        f"prompt of {config.prompt}, in turn in one process, "
        f"{_count(torch.get_num_threads(), 'thread')}, torch {torch.__version__}; median; the "
        "weights of embeddings are not counted as read"
        + ("; those of all experts are, of which a token uses some" if findings.experts else ""),
        f"outputs of the timed sparse layers differ from the simulation's on the same inputs by at "
        f"most {findings.apart:.2g} of their norm",
    ]
    if findings.left and config.dense[0] != config.dtype:
        facts.append(
            f"the sparse model is made of the {config.dense[0]} one, and layers that are not the "
            f"plan's stay so: {', '.join(findings.left)}"
        )
    if findings.curve:
        facts.append("other sparsities are simulated in the dense model, recalibrated on "
                     f"{', '.join(config.calibration_text)}")  # fmt: skip
    return tuple(facts)


def _plan_fact(config: BenchConfig, plan: ThresholdPlan) -> str:
    dense = plan.keep_first
    return (
        f"plan: {config.plan}, calibrated for {plan.sparsity:.0%} with the score {plan.score}, "
        f"shared out {plan.allocate}"
        + (f", the first {_count(dense, 'token')} dense" if dense else "")
        + (", compensated or tuned: weights are changed too" if plan.updates else "")
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _conclusion(sparse: str, quality: Sequence[QualityRow], decode: Sequence[DecodeRow]) -> str:
    cost = next(row for row in quality if row.label == sparse)
    gain = next(row for row in decode if row.label == sparse)
    assert cost.ratio is not None
    return (
        f"Without {cost.sparsity:.1%} of the weights of its sites a token takes {gain.ms:.1f} ms, "
        f"{gain.speed:.2f} times as fast as the best dense model, and perplexity is "
        f"{cost.ratio.value:.3f} times the dense one's."
    )
