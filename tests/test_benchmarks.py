"""Every benchmark runs at the smallest size, through the command that a user would type."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PARTS = {
    "compare": {"compare_frontier", "compare_rates", "compare_jobs", "compare_kills"},
    "denoise": {
        "denoise_quality",
        "denoise_starts",
        "denoise_photon",
        "denoise_speed",
        "denoise_memory",
        "denoise_learned",
        "denoise_fine_tuning",
    },
    "feature_selection": {"feature_selection"},
    "first_calls": {"first_calls"},
    "gather_linear": {
        "gather_linear_4096x14336",
        "gather_linear_curve_4096x4096",
        "gather_linear_rows_4096x4096",
        "gather_linear_small_576x1536",
    },
    "language": {"language_decode", "language_step", "language_llama1b", "language_quality_50"},
    "language_peers": {"language_peers", "language_peers_llama1b"},
    "learned_thresholds": {"learned_thresholds"},
    "penalties": {"penalties"},
    "penalty_memory": {"penalty_memory"},
    "pruning_peers": {"pruning_peers"},
    "sae": {"sae_topk", "sae_relu", "sae_jumprelu", "sae_density"},
    "sae_kills": {"sae_kills"},
    "sae_kinds": {"sae_kinds", "sae_floor", "sae_defaults"},
    "sae_peers": {"sae_peers_steps", "sae_peers_memory", "sae_peers_width", "sae_peers_k"},
    "sae_smollm2": {"sae_smollm2"},
    "sparse_coding": {
        "sparse_coding_batch",
        "sparse_coding_curves",
        "sparse_coding_large",
        "sparse_coding_dictionary",
        "sparse_coding_lista",
    },
    "sparse_training": {"sparse_encoder", "sparse_decoder"},
    "thresholds": {"thresholds_eager", "thresholds_compiled"},
}
"""Script → the result files of all its parts."""
WITHOUT_PARTS = {
    "gguf_files",
    "gpu",
    "gpu_compile",
    "harness",
    "language_sides",
    "learned_denoisers",
    "sae_sides",
    "table",
    "token_step",
}


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="session")
def models(tmp_path_factory, tiny):
    """A directory as `scripts/fetch_models.py` and `gather_text.py` make it, with a tiny model."""
    from tiny_language import TEXT

    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny, folder / "smollm2")
    generator = torch.Generator().manual_seed(0)
    for name in ("text/calibrate", "text/held_out", "docstrings/train", "docstrings/held_out"):
        words = torch.randint(len(TEXT), (4096,), generator=generator)
        file = folder / f"{name}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(" ".join(TEXT[i] for i in words), encoding="utf-8")
    return folder


def test_every_script_is_known():
    assert {file.stem for file in BENCHMARKS.glob("*.py")} == {*PARTS, *WITHOUT_PARTS}


@pytest.mark.parametrize("script", PARTS)
def test_all_parts_at_the_smallest_size(script, models, tmp_path):
    process = run(script, "--tiny", "--results", tmp_path, "--models", models)
    assert process.returncode == 0, process.stderr
    assert {file.stem for file in tmp_path.glob("*.json")} == PARTS[script]


def test_values_of_a_part(tmp_path):
    process = run("gather_linear", "small", "8", "12", "--tiny", "--results", tmp_path)
    assert process.returncode == 0, process.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["gather_linear_small_8x12.json"]
    process = run("gather_linear", "small", "eight")
    assert process.returncode == 2
    assert "small: invalid literal for int() with base 10: 'eight'" in process.stderr


@pytest.mark.skipif(importlib.util.find_spec("sae_lens") is not None, reason="it is installed")
def test_a_missing_library_is_one_line(tmp_path):
    process = run("sae_peers", "steps", "--results", tmp_path)
    assert process.returncode == 1
    assert process.stderr.splitlines() == [
        "sparsify and SAELens must be installed: run `make bench-peers`"
    ]


def test_table_writes_the_readme(tmp_path):
    copy = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    start, end = text.index("<!-- measured: start -->"), text.index("<!-- measured: end -->")
    copy.write_text(text[:start] + "<!-- measured: start -->" + text[end:], encoding="utf-8")
    process = run("table", "--readme", copy)
    assert process.returncode == 0, process.stderr
    assert copy.read_text(encoding="utf-8") == text


def test_commands_in_texts_name_parts_that_exist():
    files = [ROOT / "Makefile", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    files += [*BENCHMARKS.glob("*.py"), *(ROOT / "src").rglob("*.py")]
    commands = {
        command
        for file in files
        for command in re.findall(
            rf"(?:benchmarks/|['`])({'|'.join(PARTS)})\.py ([a-z]\w*)\b(?!\.py)",
            file.read_text(encoding="utf-8"),
        )
    }
    assert ("gather_linear", "table") in commands
    for script, part in commands:
        text = (BENCHMARKS / f"{script}.py").read_text(encoding="utf-8")
        assert f'"{part}"' in text, f"{script}.py has no part {part}"
