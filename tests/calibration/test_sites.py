from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tiny_models
from sparsact.calibration import calibrate, find_sites
from sparsact.calibration.model_forward import output_head
from sparsact.calibration.sites import InputSite
from sparsact.inference import sparsify

IDS = torch.randint(0, tiny_models.VOCABULARY, (2, 7))


def readers(model, batch, **choice):
    return [site.readers for site in find_sites(model, batch, **choice)]


class Branches(nn.Module):
    """Three layers, read as its forward says."""

    def __init__(self, forward):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(6, 5), nn.Linear(6, 6)
        self.reads = forward

    def forward(self, x):
        return self.reads(self, x)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [False, True])
def test_gated_transformers(kind, tied):
    model = getattr(tiny_models, kind)(tie_word_embeddings=tied)
    sites = find_sites(model, {"input_ids": IDS})
    names = [tuple(name.split(".", 3)[3] for name in site.readers) for site in sites]
    attention = tuple(f"self_attn.{kind}_proj" for kind in "qkv")
    block = [
        attention,
        ("self_attn.o_proj",),
        ("mlp.gate_proj", "mlp.up_proj"),
        ("mlp.down_proj",),
    ]
    assert names == block * 2
    assert [(site.inputs, site.outputs) for site in sites[:4]] == [
        (32, 32 + 16 + 16),
        (32, 32),
        (32, 160),
        (80, 32),
    ]
    assert sites[0].name == "model.layers.0.self_attn.q_proj"
    assert sites[0].label == "model.layers.0.self_attn.q_proj|k_proj|v_proj"
    assert sites[0].weights == 32 * 64


def test_conv1d_of_gpt2():
    actual = readers(tiny_models.gpt2(), IDS)
    layers = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert actual == [(f"transformer.h.{block}.{name}",) for block in range(2) for name in layers]
    site = find_sites(tiny_models.gpt2(), IDS)[0]
    assert (site.inputs, site.outputs) == (32, 96)


def test_encoders():
    actual = readers(tiny_models.bert(), {"input_ids": IDS})
    assert [len(names) for names in actual] == [3, 1, 1, 1] * 2 + [1]
    assert actual[-1] == ("pooler.dense",)
    actual = readers(tiny_models.vit(), {"pixel_values": torch.randn(1, 3, 16, 16)})
    assert [len(names) for names in actual] == [3, 1, 1, 1] * 2 + [1]
    assert actual[-1] == ("classifier",)


def test_the_output_head_is_left_out():
    model = tiny_models.llama()
    assert output_head(model) is model.lm_head
    assert all("lm_head" not in name for site in readers(model, IDS) for name in site)
    assert output_head(tiny_models.mlp()) is None


def test_include_and_exclude():
    model = tiny_models.llama()
    assert readers(model, IDS, include="*.0.mlp.*") == [
        ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"),
        ("model.layers.0.mlp.down_proj",),
    ]
    actual = readers(model, IDS, exclude=["*.1.*", "*.k_proj", "*.mlp"])
    assert actual[0] == ("model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj")
    assert len(actual) == 4  # a pattern on a container alone excludes none of its layers
    with pytest.raises(ValueError, match="no module matches 'mlp2'"):
        find_sites(model, IDS, include="mlp2")
    with pytest.raises(ValueError, match="leave no linear layer"):
        find_sites(model, IDS, include="*.norm")


def test_layers_that_are_never_called():
    x = torch.randn(3, 6)
    assert readers(Branches(lambda m, x: m.b(x)), x) == [("b",)]
    with pytest.raises(ValueError, match="calls none of its linear layers"):
        find_sites(Branches(lambda m, x: x), x)


def test_a_layer_that_is_called_twice():
    x = torch.randn(3, 6)
    assert readers(Branches(lambda m, x: m.c(m.c(x)) + m.c(x)), x) == [("c",)]
    # c reads what a reads, but also another tensor: they cannot compute together
    assert readers(Branches(lambda m, x: (m.a(x), m.c(m.c(x)))), x) == [("a",), ("c",)]


def test_equal_values_are_not_the_same_tensor():
    x = torch.randn(3, 6)
    assert readers(Branches(lambda m, x: (m.a(x), m.b(x.clone()))), x) == [("a",), ("b",)]
    assert readers(Branches(lambda m, x: (m.a(x), m.b(x.view(3, 6)))), x) == [("a", "b")]
    assert readers(Branches(lambda m, x: (m.a(x), m.b(x.add_(1)))), x) == [("a",), ("b",)]
    # the memory of a tensor that is gone is soon another's
    assert readers(Branches(lambda m, x: (m.a(x + 1), m.b(x + 2), m.c(x + 3))), x) == [
        ("a",),
        ("b",),
        ("c",),
    ]


def test_a_layer_with_two_names():
    shared = nn.Linear(6, 6)
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared, nn.Linear(6, 2))})
    model.forward = lambda x: model["b"](model["a"](x))
    x = torch.randn(3, 6)
    assert readers(model, x) == [("a.0",), ("b.1",)]
    assert readers(model, x, exclude="b.0") == [("b.1",)]
    assert readers(model, x, include="b.0") == [("a.0",)]


def test_an_encoder_of_torch():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    # attention takes the weights of out_proj without calling it
    assert readers(layer, torch.randn(2, 5, 8)) == [("linear1",), ("linear2",)]


class Routed(nn.Module):
    """Each row goes to one expert; an expert may get none."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(6, 4)
        self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))

    def forward(self, x):
        chosen = x[:, :4].argmax(1)
        y = torch.zeros_like(x)
        self.router(x)
        for place, expert in enumerate(self.experts):
            y[chosen == place] = expert(x[chosen == place])
        return y


def test_experts_are_sites_of_their_own_even_without_rows():
    x = torch.zeros(3, 6)
    x[:, 0] = 1  # all rows go to the first
    names = [(f"experts.{place}",) for place in range(4)]
    assert readers(Routed(), x) == [("router",), *names]


class Adapted(nn.Linear):
    """More than its weight says."""

    def forward(self, x):
        return super().forward(x) + x


def test_a_linear_layer_with_a_forward_of_its_own_is_left_out():
    model = nn.Sequential(nn.Linear(6, 6), Adapted(6, 6))
    assert readers(model, torch.randn(3, 6)) == [("0",)]


def test_inference_tensors():
    with torch.inference_mode():
        x = torch.randn(3, 6)
        assert readers(Branches(lambda m, x: (m.a(x), m.b(x))), x) == [("a", "b")]
    assert readers(Branches(lambda m, x: (m.a(x), m.b(x))), x) == [("a", "b")]


def state_of(model):
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        hooks,
        model.config.use_cache,
    )


@pytest.mark.parametrize("ids", [IDS, torch.full((1, 3), 1000)], ids=["works", "raises"])
def test_the_model_is_left_as_it_was(ids):
    model = tiny_models.llama().train()
    model.model.layers[0].mlp.eval()
    model.model.norm.requires_grad_(False)
    before = state_of(model)
    if ids.max() < tiny_models.VOCABULARY:
        find_sites(model, ids)
    else:
        with pytest.raises(IndexError):
            find_sites(model, ids)
    assert state_of(model) == before


def test_models_without_readable_layers():
    with pytest.raises(ValueError, match="Sequential has no linear layer"):
        find_sites(nn.Sequential(nn.ReLU()), torch.ones(1, 4))
    compiled = torch.compile(tiny_models.mlp())
    with pytest.raises(RuntimeError, match="compiled already"):
        find_sites(compiled, torch.ones(1, 16))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantised_model():
    quantised = torch.ao.quantization.quantize_dynamic(tiny_models.mlp(), {nn.Linear})
    with pytest.raises(ValueError, match="'0' is quantised"):
        find_sites(quantised, torch.ones(1, 16))


class Packed(nn.Module):
    """As of GPTQ: weights in words of their own."""

    def __init__(self):
        super().__init__()
        self.in_features, self.out_features = 16, 8
        self.register_buffer("qweight", torch.zeros(2, 8, dtype=torch.int32))


class Ternary(nn.Module):
    """As of BitNet: an integer weight under the usual name."""

    def __init__(self):
        super().__init__()
        self.in_features, self.out_features = 16, 8
        self.register_buffer("weight", torch.zeros(2, 16, dtype=torch.uint8))


class Narrow(nn.Linear):
    """As of fine-grained FP8."""

    def __init__(self):
        super().__init__(16, 8)
        self.weight = nn.Parameter(self.weight.to(torch.float8_e4m3fn), requires_grad=False)


@pytest.mark.parametrize("kind", [Packed, Ternary, Narrow])
def test_quantised_layers_of_other_libraries(kind):
    with pytest.raises(ValueError, match=rf"'1' is quantised \({kind.__name__}\)"):
        find_sites(nn.Sequential(nn.Linear(16, 16), kind()), torch.ones(1, 16))


@pytest.mark.parametrize("marked_by", ["model", "config"])
def test_a_model_that_is_marked_as_quantised(marked_by):
    def tell(model):
        if marked_by == "model":
            model.is_quantized = True
        else:
            model.config = SimpleNamespace(quantization_config={"quant_method": "some"})
        return model

    with pytest.raises(ValueError, match=r"the model is quantised \(Sequential\)"):
        find_sites(tell(nn.Sequential(Adapted(6, 6))), torch.ones(1, 6))
    # as from a GGUF file: its weights are plain all the same
    assert readers(tell(nn.Sequential(nn.Linear(6, 6))), torch.ones(1, 6)) == [("0",)]


def test_a_model_that_is_sparse_already():
    model, x = tiny_models.mlp(), torch.randn(40, 16)
    sparse = sparsify(model, calibrate(model, [x], score="weight"))
    with pytest.raises(ValueError, match=r"'0' is a SparseLinear: .* sparse already"):
        find_sites(sparse, x)


def test_a_site_counts_all_its_weights():
    site = InputSite("a.q", ("a.q", "a.k"), 4, 10)
    assert (site.weights, site.label) == (40, "a.q|k")
