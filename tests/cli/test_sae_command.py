import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from sparsact.sae import load_sae, load_saelens

FLAGS = [
    *("--d-sae", "64", "--k", "4", "--batch-size", "64", "--held-out", "400"),
    *("--lr-warmup-steps", "10", "--sparsity-warmup-steps", "10", "--checkpoint-every", "10"),
]


def started(*arguments, **options):
    command = [sys.executable, "-m", "sparsact.cli", "sae", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def finished(*arguments, **options):
    process = started(*arguments, **options)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, " ".join(err.split())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "activations.npy"
    np.save(path, torch.randn(2000, 16, generator=torch.Generator().manual_seed(0)).numpy())
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, finished("train", "--data", data, *FLAGS, "--steps", 60, "--out", out)


def curve(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_the_files_of_a_run(whole, data):
    out, (status, shown, _) = whole
    assert status == 0
    assert "fvu" in shown
    assert [line["step"] for line in curve(out)] == list(range(1, 61))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["l0"] <= 4
    assert metrics["inputs"] == 400
    assert metrics["dead"] == curve(out)[-1]["dead"] / 64
    assert load_sae(out / "sae").config.d_sae == 64
    status, shown, _ = finished("eval", out / "sae", "--data", data)
    assert status == 0
    assert f"{metrics['fvu']:.4g}" in shown
    assert "measured on 400 of the 400 rows that were held out" in shown
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Norm of the gradient" in page
    status, shown, _ = finished("report", out, "--out", out.parent / "again.html")
    assert (status, shown.strip()) == (0, f"report: {out.parent}/again.html")
    assert (out.parent / "again.html").read_text(encoding="utf-8") == page


def test_an_export(whole, tmp_path):
    out = tmp_path / "exported"
    status, shown, _ = finished(
        *("export", whole[0] / "sae", out, "--format", "saelens", "--hook-name", "blocks.0.x")
    )
    assert status == 0
    assert str(out) in shown.replace("\n", "")
    assert json.loads((out / "cfg.json").read_text())["metadata"]["hook_name"] == "blocks.0.x"
    x = torch.randn(9, 16)
    assert torch.equal(load_saelens(out)(x), load_sae(whole[0] / "sae")(x))
    for source, message in ((whole[0] / "sae", "choose another"), (tmp_path, "config.json")):
        status, _, error = finished("export", source, out)
        assert status == 2
        assert message in error
        assert "Traceback" not in error


def test_killed_and_resumed_gives_the_same_curve(whole, data, tmp_path):
    out = tmp_path / "run"
    flags = ("train", "--data", data, *FLAGS, "--steps", 60, "--out", out)
    process = started(*flags, "--checkpoint-every", 7)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "sae").exists()
    status, _, error = finished(*flags, "--checkpoint-every", 7, "--resume")
    assert status == 0, error
    assert curve(out) == curve(whole[0])


def small_files_only():
    """As on a full disk: files cannot grow beyond this size."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, hard))


def test_a_full_disk_is_one_line_and_the_run_can_be_resumed(whole, data, tmp_path):
    out = tmp_path / "run"
    flags = ("train", "--data", data, *FLAGS, "--out", out)
    assert finished(*flags, "--steps", 20)[0] == 0
    before = (out / "checkpoint" / "state.safetensors").read_bytes()
    flags = (*flags, "--resume", "--steps", 60)
    status, _, error = finished(*flags, preexec_fn=small_files_only)
    assert status == 2
    assert "could not be written (File too large" in error
    assert "Traceback" not in error
    assert (out / "checkpoint" / "state.safetensors").read_bytes() == before
    assert not list(out.glob("**/.*")) + list(out.glob("**/*.unfinished"))
    assert finished(*flags)[0] == 0
    assert curve(out) == curve(whole[0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out", "{whole}"], "--resume"),
        (["--out", "{whole}", "--resume", "--lr", "0.1"], "another lr: use"),
        (["--out", "{new}", "--resume"], "no run"),
        (["--out", "{mine}"], "not empty"),
        (["--out", "{new}", "--data", "no.npy"], "does not exist"),
        (["--out", "{new}", "--model", "x"], "either --data"),
        (["--out", "{new}", "--data", "{first}"], "first.npy has NaN or infinity"),
        (["--out", "{new}", "--data", "{last}"], "row 1999 of {last} has NaN or infinity"),
        (["--out", "{new}", "--data", "{integer}"], "got int64 of shape (9, 3)"),
        (["--out", "{new}", "--k", "65", "--activation", "topk"], "--k 65"),
        (["--out", "{new}", "--held-out", "2000"], "leave none"),
        (["--out", "{new}", "--batch-size", "1999"], "1600"),
        (["--out", "{new}", "--target-l0", "9"], "disagree"),
        (["--out", "{new}", "--activation", "relu", "--target-l0", "9", "--steps", "9"], "warmup"),
    ],
)
def test_mistakes_end_with_one_line(flags, message, whole, data, tmp_path, sparsact):
    places = {"whole": whole[0], "new": tmp_path / "new", "mine": tmp_path / "mine"}
    (tmp_path / "mine" / "sae").mkdir(parents=True)
    (tmp_path / "mine" / "sae" / "notes.txt").write_text("precious")
    for name, rows in (("first", slice(0, 300)), ("last", slice(1999, None))):
        places[name] = tmp_path / f"{name}.npy"
        spoilt = np.load(data)
        spoilt[rows, 3] = np.nan
        np.save(places[name], spoilt)
    np.save(tmp_path / "whole_numbers.npy", np.ones((9, 3), int))
    places["integer"] = tmp_path / "whole_numbers.npy"
    flags = [flag.format(**places) for flag in flags]
    status, _, error = sparsact("sae", "train", "--data", data, *FLAGS, "--steps", 60, *flags)
    assert status == 2
    assert message.format(**places) in error
    assert "Traceback" not in error
    assert sorted(file.name for file in (tmp_path / "mine").rglob("*")) == ["notes.txt", "sae"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{new}", "--data", "{data}"], "does not exist"),
        (["{whole}/sae", "--data", "no.npy"], "does not exist"),
        (["{whole}/sae", "--data", "{narrow}"], "width 3"),
    ],
)
def test_mistakes_in_measuring_end_with_one_line(flags, message, whole, data, tmp_path, sparsact):
    narrow = tmp_path / "narrow.npy"
    np.save(narrow, np.ones((20, 3), np.float32))
    places = {"whole": whole[0], "new": tmp_path / "new", "data": data, "narrow": narrow}
    status, _, error = sparsact("sae", "eval", *[flag.format(**places) for flag in flags])
    assert status == 2
    assert message in error
    assert "Traceback" not in error
