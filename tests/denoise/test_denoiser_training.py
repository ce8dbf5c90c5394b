"""The script that trains the network of the package."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch, tmp_path):
    """The script at a small size, and its photographs."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    script = importlib.import_module("train_denoiser")
    for name, value in {"CROP": 32, "BATCH": 2, "EVERY": 2, "LAYERS": {1: 2, 3: 2}}.items():
        monkeypatch.setattr(script, name, value)
    monkeypatch.setattr(script, "STEPS", {"grey": 4, "colour": 4})
    monkeypatch.setattr(script, "WEIGHTS", tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    random = np.random.default_rng(0)
    sizes = {f"{script.VALIDATION[0]}/{script.SCALES[1]}": 280, "a/480": 50, "b/800": 70}
    pictures = {name: random.integers(0, 256, (n, n + 9, 3), np.uint8) for name, n in sizes.items()}
    np.savez(tmp_path / "photographs.npz", **pictures)
    return script


@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_a_run_that_is_continued_equals_one_that_is_not(script, tmp_path, kind):
    threads = torch.get_num_threads()
    script.train(tmp_path, kind, 0, np.inf, resume=False)
    whole = torch.load(tmp_path / f"{kind}.pt")
    script.train(tmp_path, kind, 0, 0, resume=False)
    assert torch.load(tmp_path / f"{kind}.pt")["step"] == 2
    script.train(tmp_path, kind, 0, np.inf, resume=True)
    parts = torch.load(tmp_path / f"{kind}.pt")
    torch.set_num_threads(threads)
    assert parts["step"] == whole["step"] == 4
    for part in ("network", "average"):
        assert all(torch.equal(parts[part][name], whole[part][name]) for name in whole[part])
    assert len((tmp_path / f"{kind}.jsonl").read_text().splitlines()) == 3
    script.export(tmp_path)
    weights = load_file(tmp_path / "weights" / f"{kind}.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert weights.keys() == whole["average"].keys()


def test_batches_follow_from_seed_and_step(script, tmp_path):
    training, validation = script.load(tmp_path)
    assert [picture.shape for picture in validation] == [(256, 256, 3)]
    batches, other = (script.Batches(training, 3, seed) for seed in (0, 1))
    first, again, later, elsewhere = batches(5), batches(5), batches(6), other(5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for different in (later, elsewhere):
        assert not any(torch.equal(a, b) for a, b in zip(first, different, strict=True))
    clean, noise, sigma = first
    assert clean.shape == noise.shape == (2, 3, 32, 32)
    assert ((sigma >= 2 / 255) & (sigma <= 75 / 255)).all()


def test_the_rate_rises_and_falls(script):
    rates = [script.rate(step, 30_000) for step in range(30_000)]
    assert np.argmax(rates) == pytest.approx(200, abs=5)
    assert rates[0] < 1e-5 > rates[-1] > 0


def test_what_was_trained_on_is_listed(script):
    listed = (ROOT / "src/sparsact/denoise/weights/PHOTOGRAPHS.txt").read_text(encoding="utf-8")
    for package, names in script.PACKAGES.items():
        assert package.replace("=", " ") in listed
        assert all(name in listed for name in names.split())
    assert all(f"{name} *" in listed for name in script.VALIDATION)
