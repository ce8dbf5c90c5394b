"""``sparsact generate`` on a tiny model, within this process."""

import pytest
import torch
from transformers import AutoTokenizer

import sparsact as sa
from sparsact.calibration import calibrate
from tiny_language import llama, save_model

PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generate")
    save_model(folder / "tiny", llama())
    batches = [torch.randint(2, 18, (2, 40), generator=torch.Generator().manual_seed(1))]
    calibrate(llama(), batches, 0.5).save(folder / "plan")
    return folder


def continued(places, model):
    tokenizer = AutoTokenizer.from_pretrained(places / "tiny")
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    return tokenizer.decode(sa.generate(model, ids, 6)[0], skip_special_tokens=True)


def test_continues_a_text(sparsact, places):
    status, shown, error = sparsact(
        "generate", str(places / "tiny"), "--prompt", PROMPT, "--tokens", "6"
    )
    assert status == 0, error
    assert shown.splitlines()[0] == continued(places, llama())
    assert "ms for each after the first" in shown


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_plan_makes_the_model_sparse(sparsact, places, dtype):
    plan = places / "plan"
    status, shown, error = sparsact(
        *("generate", str(places / "tiny"), "--prompt", PROMPT, "--tokens", "6"),
        *("--plan", str(plan), "--dtype", dtype),
    )
    assert status == 0, error
    sparse = sa.sparsify(llama(), sa.ThresholdPlan.load(plan), dtype)
    assert shown.splitlines()[0] == continued(places, sparse)


def test_draws_repeat_with_their_seed(sparsact, places):
    words = ("generate", str(places / "tiny"), "--prompt", PROMPT, "--temperature", "3", "--seed")
    texts = [sparsact(*words, seed)[1].splitlines()[0] for seed in ("1", "1", "2")]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prompt", ""), "--prompt has no tokens"),
        (("--prompt", "the", "--top-p", "2"), "--top-p must be above 0"),
        (("--prompt", "the", "--temperature", "-1"), "--temperature must be finite"),
        (("--prompt", "the", "--tokens", "-1"), "--tokens must be at least 0"),
        (("--prompt", "the", "--plan", "nowhere"), "nowhere"),
    ],
)
def test_wrong_arguments_give_one_line(sparsact, places, words, message):
    status, shown, error = sparsact("generate", str(places / "tiny"), *words)
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1
    assert shown == ""
