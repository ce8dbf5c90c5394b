"""Runs that store no activations, and runs of several layers at once."""

import dataclasses
import json
from contextlib import nullcontext

import pytest
import torch

from sparsact.sae import SAETrainConfig, load_sae
from sparsact.sae.data.activation_source import ActivationSource
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.training.training_run import train_run, train_runs
from tiny_language import WORDS, save_tiny_model


class StoppedError(Exception):
    """Ends a run, as a crash would."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, len(WORDS), (700,), generator=generator).tolist()
    (folder / "text.txt").write_text(" ".join(WORDS[id] for id in ids))
    return ActivationSource(
        model=str(save_tiny_model(folder / "model")),
        layer="model.layers.1",
        text=(str(folder / "text.txt"),),
        length=16,
        batch_rows=4,
        stream=True,
    )


def run(source, out, *, resume=False, steps=24, **changes):
    return SAERun(
        dataclasses.replace(source, **changes),
        SAETrainConfig(lr=3e-3, target_l0=None),
        d_sae=64,
        k=4,
        steps=steps,
        batch_size=64,
        held_out=100,
        buffer_rows=256,
        checkpoint_every=7,
        out=str(out),
        resume=resume,
    )


def log_of(folder):
    return (folder / "log.jsonl").read_text()


def stops_at(step):
    def progress(done, total, label):
        if label == "training" and done == step:
            raise StoppedError

    return progress


def test_a_streamed_run_learns_and_stores_nothing(source, tmp_path):
    result = train_run(run(source, tmp_path / "run"))
    assert result.metrics.inputs == 100
    lines = [json.loads(line) for line in log_of(tmp_path / "run").splitlines()]
    assert lines[-1]["fvu"] < 0.8 * lines[0]["fvu"]
    assert not (tmp_path / "run" / "activations").exists()
    origin = load_sae(tmp_path / "run" / "sae").trained_on
    assert (origin.layer, origin.site, origin.skip) == ("model.layers.1", "output", 1)


@pytest.mark.parametrize("layer", ["model.layers.1", "model.layers.*.mlp"])
def test_an_interrupted_stream_continues_with_the_same_curve(source, tmp_path, layer):
    train_runs(run(source, tmp_path / "whole", layer=layer))
    for step in (3, 17, 40):  # before and after checkpoints, and between the layers
        with pytest.raises(StoppedError) if step < 24 or "*" in layer else nullcontext():
            resume = (tmp_path / "parts").exists()
            train_runs(run(source, tmp_path / "parts", layer=layer, resume=resume), stops_at(step))
    train_runs(run(source, tmp_path / "parts", layer=layer, resume=True))
    logs = sorted((tmp_path / "whole").rglob("log.jsonl"))
    assert len(logs) == (3 if "*" in layer else 1)
    for log in logs:
        assert log_of(tmp_path / "parts" / log.relative_to(tmp_path / "whole").parent) == (
            log.read_text()
        )


def test_several_layers_give_the_runs_of_each(source, tmp_path):
    """Stored or streamed, an autoencoder of several is that of a run by itself."""
    for stream in (True, False):
        many = train_runs(
            run(source, tmp_path / f"many{stream}", layer="model.layers.*.mlp", stream=stream)
        )
        assert list(many) == [f"model.layers.{number}.mlp" for number in (0, 1, 2)]
        name = "model.layers.2.mlp"
        train_run(run(source, tmp_path / f"one{stream}", layer=name, stream=stream))
        log = log_of(tmp_path / f"many{stream}" / name)
        assert log == log_of(tmp_path / f"one{stream}")
        sae = load_sae(tmp_path / f"many{stream}" / name / "sae")
        assert sae.trained_on.layer == name


def test_the_input_of_a_module_in_bfloat16_files(source, tmp_path):
    changes = {"site": "input", "stream": False, "cache_dtype": "bfloat16", "max_norm": 50.0}
    changes |= {"layer": "model.layers.1.mlp", "dtype": "bfloat16", "device": "cpu"}
    result = train_run(run(source, tmp_path / "run", **changes))
    assert result.autoencoder.trained_on.site == "input"
    manifest = json.loads((tmp_path / "run" / "activations" / "manifest.json").read_text())
    assert manifest["dtype"] == "torch.bfloat16"
    assert manifest["site"] == "input"


def test_tokens_of_documents(source, tmp_path):
    """BOS and EOS inside, further tokens and leading ones are left out."""
    from transformers import AutoTokenizer

    lines = [{"text": "w1 w2 <s> w3"}, {"text": "w4 w5"}]
    file = tmp_path / "texts.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    tokenizer = AutoTokenizer.from_pretrained(source.model)
    tokenizer.eos_token = "w0"
    start, w = tokenizer.bos_token_id, [WORDS.index(f"w{number}") for number in range(6)]
    reading = dataclasses.replace(source, text=(str(file),), length=8)
    tokens = reading.tokens(tokenizer)
    assert tokens.ids.tolist()[0] == [start, w[1], w[2], start, w[3], w[0], w[4], w[5]]
    assert tokens.ids[tokens.kept()].tolist() == [w[1], w[2], w[3], w[4], w[5]]
    fewer = dataclasses.replace(reading, drop_tokens=(w[4],), drop_first=3, separator=False)
    tokens = fewer.tokens(tokenizer)
    assert tokens.ids[tokens.kept()].tolist() == [w[3], w[5]]
    everything = dataclasses.replace(reading, drop_bos=False).tokens(tokenizer)
    assert everything.kept().sum() == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache": "somewhere"}, "stream= stores no activations"),
        ({"layer": "model.layers.9"}, "no module matches"),
        ({"layer": "blocks.9.hook_resid_post"}, "no block 9"),
        ({"device": "nowhere"}, "device=nowhere cannot be used"),
        ({"device": "cuda:99"}, "device=cuda:99 cannot be used"),
        ({"dtype": "int8"}, "dtype"),
        ({"cache_dtype": "int8"}, "cache_dtype"),
        ({"max_norm": 0.5}, "max_norm= must be at least 1"),
        ({"max_norm": float("nan")}, "max_norm= must be at least 1"),
        ({"drop_first": -1}, "drop_first= must be at least 0"),
        ({"drop_first": 16}, "leaves nothing"),
        ({"max_tokens": 90}, "give more text"),
        ({"max_tokens": 120}, "needs more than"),
        ({"drop_tokens": tuple(range(len(WORDS)))}, "no text to train on|no tokens"),
    ],
)
def test_settings_of_a_stream_that_are_refused(source, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train_run(run(source, tmp_path / "run", **changes))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_pattern_needs_the_call_for_several(source, tmp_path):
    with pytest.raises(ValueError, match=r"matches model\.layers\.0\.mlp"):
        train_run(run(source, tmp_path / "run", layer="model.layers.*.mlp"))
    data = SAERun(ActivationSource(data="x.npy", stream=True), out=str(tmp_path / "data"))
    with pytest.raises(ValueError, match="stream= needs model="):
        train_run(data)
