"""``sparsact sae`` with a model and text: trained on a layer, measured in the model."""

import json
import re

import pytest
import torch

from sparsact.sae import (
    SAEConfig,
    SparseAutoencoder,
    evaluate,
    evaluate_spliced,
    harvest,
    load_sae,
    save_sae,
)
from sparsact.text import load_language_model, read_tokens
from tiny_language import WIDTH, WORDS, save_tiny_model

LAYER = "model.layers.1"
FLAGS = [
    *("--d-sae", "64", "--k", "4", "--batch-size", "64", "--held-out", "100", "--steps", "20"),
    *("--lr-warmup-steps", "5", "--sparsity-warmup-steps", "5", "--length", "16"),
]


@pytest.fixture
def sae(sparsact):
    """Runs one of its commands, with the output on one line."""

    def run(*arguments):
        status, shown, error = sparsact("sae", *arguments)
        return status, " ".join(shown.split()), error

    return run


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A model; a text; the same text as a dataset; a text that is empty."""
    folder = tmp_path_factory.mktemp("language")
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, len(WORDS), (900,), generator=generator).tolist()
    text = " ".join(WORDS[id] for id in ids)
    (folder / "text.txt").write_text(text)
    (folder / "held.txt").write_text(text[:600])
    (folder / "empty.txt").write_text("\n")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "train.jsonl").write_text(json.dumps({"text": text}) + "\n")
    save_tiny_model(folder / "model")
    return folder


@pytest.fixture
def trained(sae, places, tmp_path):
    out = tmp_path / "run"
    source = ("--model", places / "model", "--layer", LAYER)
    text = ("--text", f"hf:{places / 'corpus'}", "--max-tokens", "900")
    status, _, error = sae("train", *source, *text, *FLAGS, "--out", out)
    assert status == 0, error
    return out / "sae"


def test_trained_on_a_dataset_and_measured_in_the_model(trained, sae, places, tmp_path):
    text = places / "held.txt"
    status, shown, error = sae(
        *("eval", trained, "--model", places / "model", "--layer", LAYER, "--length", "16"),
        *("--text", text),
    )
    assert status == 0, error
    model, tokenizer = load_language_model(str(places / "model"))
    tokens, sae = read_tokens(tokenizer, [text], 16), load_sae(trained)
    rows = harvest(model, LAYER, tokens, tmp_path / "cache")
    quality = evaluate(sae, [torch.cat([shard.read() for shard in rows.shards])])
    spliced = evaluate_spliced(model, LAYER, sae, tokens)
    printed = dict(re.findall(r"(\w+) (-?[\d.e-]+)", shown))
    for figures, names in (
        (quality, ("inputs", "l0", "fvu", "silent")),
        (spliced, ("tokens", "cross_entropy", "spliced", "kl", "recovered_of_zero")),
    ):
        for name in names:
            assert float(printed[name]) == pytest.approx(getattr(figures, name), rel=1e-3), name


def test_keeping_the_bos(untrained, sae, places):
    measured = {}
    for flag in ("--drop-bos", "--no-drop-bos"):
        status, shown, error = sae(
            *("eval", untrained, "--model", places / "model", "--layer", LAYER, flag),
            *("--text", places / "held.txt", "--length", "16"),
        )
        assert status == 0, error
        measured[flag] = int(re.search(r"inputs (\d+)", shown)[1])
    rows = -(-measured["--drop-bos"] // 15)
    assert measured["--no-drop-bos"] == measured["--drop-bos"] + rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--layer": "model.layer.1"}, "did you mean 'model.layers.1'"),
        ({"--layer": None}, "go together"),
        ({"--text": None}, "go together"),
        ({"--text": "{places}/empty.txt"}, "no text in"),
        ({"--text": "{places}/nowhere.txt"}, "there is no file"),
        ({"--text": "hf:{places}/corpus"}, "--max-tokens"),
        ({"--text": "hf:{places}/corpus", "--max-tokens": "9", "--text-column": "t"}, "'text'"),
        ({"--model": "{places}/nowhere"}, "nowhere"),
        ({"--length": "1"}, "cannot be cut into rows of 1"),
        ({"--batch-rows": "0"}, "--batch-rows must be at least 1"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "eval"])
def test_mistakes_end_with_one_line(verb, changes, message, sae, places, tmp_path, request):
    flags = {"--model": "{places}/model", "--layer": LAYER, "--text": "{places}/text.txt"}
    given = {name: value for name, value in {**flags, **changes}.items() if value is not None}
    words = [word.format(places=places) for pair in given.items() for word in pair]
    if verb == "train":
        command = ("train", *FLAGS, "--out", tmp_path / "run", *words)
    else:
        command = ("eval", request.getfixturevalue("untrained"), *words)
    status, _, error = sae(*command)
    assert status == 2
    assert message in error
    assert "Traceback" not in error


def test_a_pattern_trains_an_autoencoder_for_each_layer(sae, places, tmp_path):
    flags = ("--model", places / "model", "--text", places / "text.txt", "--layer")
    train = ("train", *flags, "model.layers.?", *FLAGS, "--stream", "--out", tmp_path / "run")
    status, shown, error = sae(*train)
    assert status == 0, error
    for number in range(3):
        assert f"model.layers.{number}/sae" in shown
        assert (tmp_path / "run" / f"model.layers.{number}" / "report.html").exists()
    one = tmp_path / "run" / "model.layers.1"
    status, _, error = sae("eval", one, *flags, "model.layers.?", "--length", "16")
    assert status == 2
    assert "matches 3 modules" in error
    hook = ("blocks.1.hook_resid_post", "--length", "16", "--dtype", "bfloat16")
    status, shown, error = sae("eval", one, *flags, *hook)
    assert status == 0, error
    assert "cross_entropy" in shown
    against = ("--against", tmp_path / "run" / "model.layers.0")
    status, _, error = sae("report", one, *against)
    assert status == 0, error
    page = (one / "report.html").read_text()
    assert "mean of the largest cosines" in page
    status, _, error = sae("eval", one, *flags, "model.layers.1", "--device", "cuda:77")
    assert status == 2
    assert "--device cuda:77 cannot be used here" in error


def test_bench_measures_as_saebench_does(sae, places, untrained, tmp_path):
    flags = ("bench", untrained, "--model", places / "model", "--layer", LAYER, "--length", "16")
    text = ("--text", places / "held.txt", "--classes", places / "text.txt", places / "held.txt")
    status, shown, error = sae(*flags, *text, "--no-first-letters", "--out", tmp_path / "f.json")
    assert status == 0, error
    assert "RAVEL" in shown  # what was not run
    figures = json.loads((tmp_path / "f.json").read_text())
    assert set(figures) == {"core", "sparse_probing"}
    assert figures["core"]["model_behavior_preservation"]["kl_div_with_ablation"] > 0
    assert 0 <= figures["sparse_probing"]["sae_top_1_test_accuracy"] <= 1
    status, _, error = sae(*flags, *text[:4], "--no-first-letters")
    assert status == 2
    assert "at least two text files" in error
    status, _, error = sae(*flags, "--text", places / "held.txt")  # its words have digits
    assert status == 2
    assert "no words in lower case" in error


def test_dashboards_in_other_forms(sae, trained, tmp_path):
    out = ("--neuronpedia", tmp_path / "json", "--prompts", tmp_path / "prompts.jsonl")
    run = trained.parent
    status, _, error = sae("report", run, "--most", "3", "--sample", "0", *out)
    assert status == 0, error
    features = json.loads((tmp_path / "json" / "batch-0.json").read_text())["features"]
    assert len(features) == 3
    assert all(len(one["pos_str"]) == 10 for one in features)
    assert len((tmp_path / "prompts.jsonl").read_text().splitlines()) == 6
    page = (run / "report.html").read_text()
    for part in ("Promotes", "falling quantiles", "Map of decoder directions", 'type="search"'):
        assert part in page


def test_a_mistake_can_be_corrected(sae, places, tmp_path):
    flags = ("train", "--model", places / "model", "--text", places / "text.txt", *FLAGS)
    flags = (*flags, "--out", tmp_path / "run", "--layer")
    assert sae(*flags, "model.layer.1")[0] == 2
    assert sae(*flags, LAYER)[0] == 0


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    sae = SparseAutoencoder(SAEConfig(WIDTH, 64, k=4))
    return save_sae(sae, tmp_path_factory.mktemp("untrained") / "sae")


def test_an_autoencoder_of_another_width(sae, places, tmp_path):
    wide = save_sae(SparseAutoencoder(SAEConfig(WIDTH + 1, 64, k=4)), tmp_path / "sae")
    status, _, error = sae(
        *("eval", wide, "--model", places / "model", "--layer", LAYER),
        *("--text", places / "held.txt", "--length", "16"),
    )
    assert status == 2
    assert "16, 17)" in error


def test_data_or_a_model(sae, untrained):
    status, _, error = sae("eval", untrained)
    assert status == 2
    assert "either --data, or --model" in error
