"""A sparse model from ``sparsact calibrate --export`` to ``sparsact bench``; flags of both."""

import json
import shutil
import sys
import types

import pytest
import torch
from transformers import AutoModelForCausalLM

from sparsact.calibration import ThresholdPlan
from sparsact.calibration.measured_sparsity import byte_sparsity
from sparsact.inference import SparseLinear, sparsify
from tiny_language import llama, save_model

SMALL = ["--text", "{text}", "--length", "64"]
CALIBRATE = ["calibrate", "--model", "{tiny}", *SMALL]
BENCH = [*SMALL, "--prompt", "8", "--tokens", "5", "--rounds", "1", "--windows", "2"]
BENCH += ["--dense", "float32"]


@pytest.fixture
def run(tiny, text, tmp_path, sparsact):
    places = {"tiny": tiny, "text": text, "here": tmp_path}
    return lambda *arguments: sparsact(*(str(each).format(**places) for each in arguments))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny):
    """A sparse model with its dense one, made by the library."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("exported") / "sparse"
    model = llama()
    batches = [torch.randint(2, 18, (2, 40), generator=torch.Generator().manual_seed(1))]
    from sparsact.calibration import calibrate

    plan = calibrate(model, batches, 0.5)
    sparsify(model, plan, "int8", keep_dense=folder / "dense").save_pretrained(folder)
    for place in (folder, folder / "dense"):
        AutoTokenizer.from_pretrained(tiny).save_pretrained(place)
    return folder


def test_export_and_bench(run, tmp_path):
    folder = tmp_path / "sparse"
    status, shown, error = run(
        *CALIBRATE, "--out", "{here}/plan", "--export", folder, "--keep-dense", "--rows", "3",
    )  # fmt: skip
    assert status == 0, error
    assert f"sparse model, int8: {folder}" in shown
    assert "% of what a dense token reads" in shown
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert isinstance(loaded.model.layers[0].mlp.up_proj, SparseLinear)
    plan = ThresholdPlan.load(tmp_path / "plan")
    ids = torch.tensor([[2, 3, 4, 5]])
    expected = sparsify(llama(), plan, "int8")(input_ids=ids).logits
    assert torch.equal(loaded(input_ids=ids).logits, expected)
    status, shown, error = run("bench", folder, *BENCH, "--out", "{here}/report")
    assert status == 0, error
    assert "sparse int8" in shown
    report = json.loads((tmp_path / "report" / "results.json").read_text())["report"]
    assert report["quality"][1]["sparsity"] == pytest.approx(0.5, abs=0.1)
    status, _, error = run(*CALIBRATE, "--out", "{here}/other", "--export", folder)
    assert status == 2
    assert "exists already" in error
    assert not (tmp_path / "other").exists()


def test_four_bits_are_rounded_on_the_text(run, tmp_path):
    folder = tmp_path / "sparse"
    status, _, error = run(
        *CALIBRATE, "--out", "{here}/plan", "--export", folder, "--dtype", "int4",
    )  # fmt: skip
    assert status == 0, error
    loaded = AutoModelForCausalLM.from_pretrained(folder).model.layers[0].mlp.up_proj
    plan = ThresholdPlan.load(tmp_path / "plan")
    nearest = sparsify(llama(), plan, "int4").model.layers[0].mlp.up_proj
    assert torch.equal(loaded.threshold, nearest.threshold)
    assert not torch.equal(loaded.weight_t, nearest.weight_t)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{tiny}"], "--plan is needed, because {tiny} is no sparse model"),
        ([], "--model is needed"),
        (["{here}/none"], "no directory"),
        (["{here}/newer"], "of format 99"),
        (["{here}/alone"], "give it as --dense-model"),
        (["{here}/alone", "--dense-model", "{here}/none"], "no directory"),
        (["{here}/alone", "--dense-model", "{here}/other"], "the plan is for another model"),
        (["{tiny}", "--plan", "{here}/alone", "--dense-model", "{tiny}"], "without --plan"),
        (["{here}/alone", "--task-limit", "3"], "--task-limit is a number"),
        (["{tiny}", "--plan", "{here}/alone", "--device", "nowhere"], "--device nowhere"),
    ],
)
def test_models_that_cannot_be_measured(run, exported, tiny, tmp_path, flags, message):
    shutil.copytree(exported, tmp_path / "alone", ignore=lambda *_: ["dense"])
    shutil.copytree(tmp_path / "alone", tmp_path / "newer")
    for name, change in {"newer": {"format": 99}, "alone": {"dense": ""}}.items():
        file = tmp_path / name / "config.json"
        config = json.loads(file.read_text())
        config["quantization_config"].update(change)
        file.write_text(json.dumps(config))
    save_model(tmp_path / "other", llama(intermediate_size=48))
    status, _, error = run("bench", *flags, *BENCH, "--out", "{here}/report")
    assert status == 2
    assert message.format(tiny=tiny) in error
    assert not (tmp_path / "report").exists()


def test_another_dense_model(run, exported, tiny, tmp_path):
    shutil.copytree(exported, tmp_path / "alone", ignore=lambda *_: ["dense"])
    status, shown, error = run(
        "bench", "--model", "{here}/alone", "--dense-model", tiny, *BENCH, "--out", "{here}/report"
    )
    assert status == 0, error
    assert "sparse int8" in shown


def test_sparsity_by_pattern(run, tmp_path):
    flags = ["--out", "{here}/plan", "--rows", "3", "--score", "weight"]
    status, _, error = run(*CALIBRATE, *flags, "--sparsity-of", "*.mlp.*=0.6", "*.self_attn.*=0.3")
    assert status == 0, error
    plan = ThresholdPlan.load(tmp_path / "plan")
    for part, share in {"mlp": 0.6, "attn": 0.3}.items():
        sites = [site for site in plan.sites if part in site.name]
        assert byte_sparsity(sites, plan.achieved) == pytest.approx(share, abs=0.08)
    for value, message in (("0.6", "PATTERN=SHARE"), ("*=1.5", "in [0, 1)"), ("*=a", "'*=a'")):
        status, _, error = run(*CALIBRATE, *flags, "--force", "--sparsity-of", value)
        assert status == 2
        assert message in error


def test_json_lines_and_datasets(run, text, tmp_path):
    """The same texts give the same plan, from a file, JSON lines and a dataset."""
    words = text.read_text().split()
    parts = [" ".join(words[i : i + 50]) for i in range(0, len(words), 50)]
    lines = "".join(json.dumps({"id": i, "body": part}) + "\n" for i, part in enumerate(parts))
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text(lines)
    flags = ["calibrate", "--model", "{tiny}", "--length", "64", "--rows", "2", "--score", "weight"]
    plans = []
    for name, sources in (
        ("file", [str(text)]),
        ("lines", ["{here}/rows.jsonl", "--text-column", "body"]),
        ("set", ["hf:{here}/set", "--text-column", "body"]),
    ):
        status, _, error = run(*flags, "--out", f"{{here}}/{name}", "--text", *sources)
        assert status == 0, error
        plans.append(ThresholdPlan.load(tmp_path / name).thresholds)
    for name, level in plans[0].items():
        assert torch.allclose(level, plans[1][name])
        assert plans[2][name].shape == level.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "the fox"}\n{"text": ', "line 2 of"),
        ('{"body": "the fox"}\n', "the columns are 'body'"),
        ('["the fox"]\n', "holds no text"),
        ("\n\n", "there is no text"),
    ],
)
def test_json_lines_that_cannot_be_read(run, tmp_path, content, message):
    (tmp_path / "rows.jsonl").write_text(content)
    flags = ["calibrate", "--model", "{tiny}", "--text", "{here}/rows.jsonl", "--out", "{here}/p"]
    flags += ["--length", "64"]
    status, _, error = run(*flags)
    assert status == 2
    assert message in error


def test_a_hub_that_cannot_be_reached(run, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    flags = ["--text", "hf:wikitext", "--out", "{here}/p", "--length", "64"]
    status, _, error = run("calibrate", "--model", "{tiny}", *flags)
    assert status == 2
    assert "the hub cannot be reached (no route): give text files" in error


def test_tasks(run, exported, monkeypatch, tmp_path):
    """The harness gets both models; its scores are in the report."""
    models = []

    def simple_evaluate(model, tasks, limit):
        assert (tasks, limit) == (["short"], 3)
        metrics = {"acc,none": 0.25, "acc_stderr,none": 0.125, "f1,none": 0.5, "alias": "short"}
        return {"results": {"short": {**metrics, "f1_stderr,none": "N/A"}}}

    class HFLM:
        def __init__(self, pretrained, tokenizer, batch_size):
            models.append(pretrained)
            assert len(tokenizer("the fox")["input_ids"]) == 2

    for name, content in (
        ("lm_eval", {"simple_evaluate": simple_evaluate}),
        ("lm_eval.models", {}),
        ("lm_eval.models.huggingface", {"HFLM": HFLM}),
    ):
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    flags = [*BENCH, "--out", "{here}/report", "--tasks", "short", "--task-limit", "3"]
    status, shown, error = run("bench", exported, *flags)
    assert status == 0, error
    assert "task short, acc: 0.2500 ± 0.1250 dense, 0.2500 ± 0.1250 sparse" in shown
    assert "task short, f1: 0.5000 dense, 0.5000 sparse" in shown
    sparse = [any(isinstance(m, SparseLinear) for m in model.modules()) for model in models]
    assert sparse == [False, True]
    facts = json.loads((tmp_path / "report" / "results.json").read_text())["report"]["facts"]
    assert any("task short, f1" in fact for fact in facts)


def test_tasks_need_the_harness(run, exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    status, _, error = run("bench", exported, *BENCH, "--out", "{here}/report", "--tasks", "short")
    assert status == 2
    assert "sparsact[eval]" in error


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own_llama"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_the_model(run, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    shutil.copytree(tiny, folder)
    (folder / "own.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own_llama", "architectures": ["OwnModel"]}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    flags = ["calibrate", "--model", folder, *SMALL, "--rows", "2", "--out", "{here}/plan"]
    status, _, error = run(*flags)
    assert status == 2
    assert "--trust-remote-code" in error
    status, _, error = run(*flags, "--trust-remote-code", "--score", "weight")
    assert status == 0, error
    assert len(ThresholdPlan.load(tmp_path / "plan").sites) == 8
