"""A sparse model is saved and loaded by transformers' own functions."""

import copy
import json
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, MixtralConfig, MixtralForCausalLM

import tiny_models
from sparsact.calibration import ThresholdPlan, calibrate, compensate
from sparsact.inference import SparseLinear, sparsify
from sparsact.inference.rms_norm import RMSNorm

pytestmark = pytest.mark.versions
DTYPES = ["float32", "bfloat16", "int8", "int4"]


def planned(model, **options):
    batches = tiny_models.token_batches()
    return model, calibrate(model, batches, 0.5, score="weight", **options)


def ids():
    return {"input_ids": torch.randint(4, 20, (2, 9))}


def weights_of(folder):
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def same_plans(first, second):
    assert first.description() == second.description()
    assert first.tensors().keys() == second.tensors().keys()
    assert all(torch.equal(first.tensors()[k], second.tensors()[k]) for k in first.tensors())
    return True


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [False, True])
def test_loads_as_it_was(kind, dtype, tied, tmp_path):
    model = getattr(tiny_models, kind)(tie_word_embeddings=tied)
    model, plan = planned(model, keep_first=2)
    sparse, inputs = sparsify(model, plan, dtype), ids()
    expected = sparse(**inputs).logits
    sparse.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(loaded(**inputs).logits, expected)
    for (name, mine), (other, theirs) in zip(
        sparse.named_modules(), loaded.named_modules(), strict=True
    ):
        assert name == other
        assert type(mine) is type(theirs), name
        if isinstance(mine, (SparseLinear, RMSNorm)):
            assert repr(mine) == repr(theirs)
    options = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(loaded.generate(**inputs, **options), sparse.generate(**inputs, **options))
    loaded.save_pretrained(tmp_path / "again")
    assert same_plans(ThresholdPlan.load(tmp_path / "again"), plan)
    first, second = weights_of(tmp_path), weights_of(tmp_path / "again")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_have_their_stored_size(tmp_path):
    model, plan = planned(tiny_models.llama(hidden_size=64, intermediate_size=256))
    layers = sum(site.weights for site in plan.sites)
    sparsify(model, plan, "int8").save_pretrained(tmp_path)
    sizes = {
        name: tensor.nbytes
        for name, tensor in weights_of(tmp_path).items()
        if name.endswith("weight_t") and "head" not in name
    }
    assert sum(sizes.values()) == layers


def test_the_plan_fits_the_dense_model(tmp_path):
    model = tiny_models.llama()
    dense = copy.deepcopy(model)
    model, plan = planned(model)
    plan = compensate(plan, model, tiny_models.token_batches(), rank=2)
    sparse = sparsify(model, plan, "float32", keep_dense=tmp_path / "dense")
    expected = sparse(**(inputs := ids())).logits
    sparse.save_pretrained(tmp_path / "sparse")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "sparse")
    assert torch.equal(loaded(**inputs).logits, expected)
    kept = AutoModelForCausalLM.from_pretrained(loaded.config.quantization_config.dense)
    assert torch.equal(kept(**inputs).logits, dense(**inputs).logits)
    again = ThresholdPlan.load(tmp_path / "sparse")
    assert same_plans(again, plan)
    torch.testing.assert_close(sparsify(kept, again, "float32")(**inputs).logits, expected)


def test_keep_dense_needs_a_model_that_saves(tmp_path):
    model = tiny_models.mlp(4, 8, 2)
    plan = calibrate(model, [torch.randn(8, 4)], 0.5, score="weight")
    with pytest.raises(ValueError, match=r"keep_dense= needs a model of transformers"):
        sparsify(model, plan, keep_dense=tmp_path / "dense")
    assert not (tmp_path / "dense").exists()


def test_shards_and_another_dtype_of_activations(tmp_path):
    model, plan = planned(tiny_models.llama())
    sparse = sparsify(model, plan, "int8")
    sparse.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    inputs = ids()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(**inputs).logits, sparse(**inputs).logits)
    assert same_plans(ThresholdPlan.load(tmp_path), plan)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(**inputs).logits.dtype == torch.bfloat16
    for name, module in half.named_modules():
        if isinstance(module, SparseLinear):
            assert module.weight_t.dtype == torch.int8, name
            assert module.threshold.dtype == torch.float32


def test_names_that_transformers_converts(tmp_path):
    """Mixtral's experts are one tensor in the model and many in its dense checkpoints."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 96}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    model, plan = planned(MixtralForCausalLM(MixtralConfig(**sizes)).eval())
    sparse, inputs = sparsify(model, plan, "int8"), ids()
    sparse.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(loaded(**inputs).logits, sparse(**inputs).logits)


def test_importing_sparsact_is_enough(tmp_path):
    model, plan = planned(tiny_models.llama())
    sparsify(model, plan, "int8").save_pretrained(tmp_path)
    code = "import sparsact; from transformers import AutoModelForCausalLM as Auto; "
    code += f"model = Auto.from_pretrained({str(tmp_path)!r}); "
    code += "print(type(model.model.layers[0].mlp.up_proj).__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "SparseLinear"


def test_push_to_hub_uploads_the_same_files(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, ModelCard

    model, plan = planned(tiny_models.llama())
    sparse, uploaded = sparsify(model, plan, "int8"), {}

    class Created:
        repo_id, url = "someone/sparse", "there"

    def create_commit(self, repo_id, operations, **_):
        for operation in operations:
            with operation.as_file() as file:
                uploaded[operation.path_in_repo] = file.read()

    card = ModelCard("none")
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *_, **__: card)
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: Created)
    monkeypatch.setattr(HfApi, "create_commit", create_commit)
    sparse.push_to_hub("someone/sparse")
    for name, content in uploaded.items():
        (tmp_path / name).write_bytes(content)
    inputs = ids()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(**inputs).logits, sparse(**inputs).logits)


def test_a_plan_of_a_name_on_the_hub(monkeypatch, tmp_path):
    import huggingface_hub

    model, plan = planned(tiny_models.llama())
    plan.save(tmp_path / "plans")
    sparsify(model, plan, "int8").save_pretrained(tmp_path / "models")
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision))
        return str(tmp_path / name.partition("/")[2])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    for name in ("someone/plans", "someone/models"):
        assert same_plans(ThresholdPlan.load(name, revision="v2"), plan)
        assert asked[-1] == (name, "v2")
    with pytest.raises(FileNotFoundError, match="no plan"):
        ThresholdPlan.load("someone/none")


def change_config(folder, **changes):
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"].update(changes.pop("settings", {}))
    file.write_text(json.dumps({**config, **changes}))


def drop(folder, name):
    file = folder / "model.safetensors"
    tensors = load_file(file)
    del tensors[next(key for key in tensors if key.endswith(name))]
    save_file(tensors, file, {"format": "pt"})


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: change_config(f, settings={"format": 99}), "format 99 .* newer sparsact"),
        (lambda f: change_config(f, settings={"format": None}), "format None"),
        (lambda f: change_config(f, settings={"dtype": "bfloat16"}), "does not fit its config"),
        (lambda f: change_config(f, settings={"dtype": "int3"}), "dtype= must be one of"),
        (lambda f: change_config(f, settings={"plan": {}}), "no plan that can be read"),
        (lambda f: change_config(f, settings={"head": "other"}), "'other' does not fit"),
        (lambda f: change_config(f, vocab_size=50), "does not fit its config"),
        (lambda f: change_config(f, intermediate_size=40), "does not fit its config"),
        (cut, "is it complete"),
        (lambda f: drop(f, "q_proj.weight_t"), "has no .*q_proj.weight_t"),
        (lambda f: drop(f, "norm.weight"), "has no .*norm.weight"),
        (lambda f: drop(f, "sparsact_plan.threshold.model.layers.0.mlp.down_proj"), "no plan"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_not_loaded(damage, message, tmp_path):
    model, plan = planned(tiny_models.llama())
    sparsify(model, plan, "int8").save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_another_class_is_refused(tmp_path):
    model, plan = planned(tiny_models.llama())
    sparsify(model, plan, "int8").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"load it with the class that was saved"):
        AutoModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("dtype", DTYPES[:3])  # a resized head of 4 bits is rounded again
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("loads", [False, True])
def test_methods_of_transformers_still_work(kind, dtype, loads, tmp_path):
    model, plan = planned(getattr(tiny_models, kind)(tie_word_embeddings=True))
    sparse, inputs = sparsify(model, plan, dtype), ids()
    if loads:
        sparse.save_pretrained(tmp_path)
        sparse = AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = sparse(**inputs).logits
    sparse.tie_weights()
    sparse.post_init()
    assert torch.equal(sparse(**inputs).logits, expected)
    known = expected.shape[-1]
    for size in (known + 5, known + 5, known - 3):
        sparse.resize_token_embeddings(size, mean_resizing=False)
        logits, common = sparse(**inputs).logits, min(size, known)
        assert logits.shape[-1] == size
        torch.testing.assert_close(logits[..., :common], expected[..., :common])
    assert not any(parameter.requires_grad for parameter in sparse.parameters())
    copied = pickle.loads(pickle.dumps(copy.deepcopy(sparse)))
    assert torch.equal(copied(**inputs).logits, logits)


def test_other_models_of_the_config_are_not_marked(tmp_path):
    model, plan = planned(tiny_models.llama())
    config = model.config
    other = type(model)(config)
    sparse = sparsify(model, plan, "int8")
    assert sparse.config is sparse.model.config
    assert not hasattr(config, "quantization_config")
    other.save_pretrained(tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path).lm_head) is torch.nn.Linear
