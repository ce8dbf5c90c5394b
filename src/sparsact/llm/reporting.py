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
    """

    dense: Tensor
    sparse: Tensor
    curve: Sequence[Level]
    achieved: Mapping[str, float]
    times: Mapping[str, list[float]]
    weight_bytes: Mapping[str, int]
    apart: float


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
    quality = _quality(f"dense {config.dense[0]}", sparse, found.achieved_sparsity, findings)
    decode = _decode(sparse, findings)
    return LanguageReport(
        title=f"{Path(config.model).name}: {found.achieved_sparsity:.0%} of the weights not read",
        facts=_facts(config, plan, findings),
        conclusion=_conclusion(sparse, quality, decode),
        quality=quality,
        decode=decode,
        kinds=kind_rows(sites),
        sites=sites,
    )


def _quality(
    dense: str, sparse: str, sparsity: float, findings: Findings
) -> tuple[QualityRow, ...]:
    levels = [
        (f"calibrated at {level.sparsity:.0%}", level.achieved, level.losses)
        for level in findings.curve
    ]
    rows = [QualityRow(dense, 0.0, perplexity(findings.dense), None)]
    for label, achieved, losses in [(sparse, sparsity, findings.sparse), *levels]:
        ratio = perplexity_ratio(losses, findings.dense)
        rows.append(QualityRow(label, achieved, perplexity(losses), ratio))
    return tuple(rows)


def _decode(sparse: str, findings: Findings) -> tuple[DecodeRow, ...]:
    medians = {label: statistics.median(times) for label, times in findings.times.items()}
    best = min(ms for label, ms in medians.items() if label != sparse)
    rows = []
    for label, times in findings.times.items():
        low, _, high = statistics.quantiles(times, n=4)
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
    dense = plan.keep_first
    facts = [
        f"model: {config.model}",
        f"plan: {config.plan}, calibrated for {plan.sparsity:.0%} with the score {plan.score}, "
        f"shared out {plan.allocate}" + (f", the first {dense} tokens dense" if dense else ""),
        f"text: {text}; {config.windows} windows of {config.length} tokens spread over it; ± is "
        "the standard error over windows, of the ratio window by window",
        f"sparsity: on {min(4, config.windows)} of these windows, all tokens",
        f"decode: batch 1, {config.rounds} rounds of {config.tokens} tokens after a prompt of "
        f"{config.prompt}, in turn in one process, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}; median; the weights of embeddings are not counted as read",
        f"outputs of the timed sparse layers differ from the simulation's on the same inputs by at "
        f"most {findings.apart:.2g} of their norm",
    ]
    if findings.curve:
        facts.append("other sparsities are simulated in the dense model, recalibrated on "
                     f"{', '.join(config.calibration_text)}")  # fmt: skip
    return tuple(facts)


def _conclusion(sparse: str, quality: Sequence[QualityRow], decode: Sequence[DecodeRow]) -> str:
    cost = next(row for row in quality if row.label == sparse)
    gain = next(row for row in decode if row.label == sparse)
    assert cost.ratio is not None
    return (
        f"Without {cost.sparsity:.1%} of the weights of its sites a token takes {gain.ms:.1f} ms, "
        f"{gain.speed:.2f} times as fast as the best dense model, and perplexity is "
        f"{cost.ratio.value:.3f} times the dense one's."
    )
