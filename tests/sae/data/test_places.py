"""Places in a model, by module and by the names of TransformerLens."""

import pytest
import torch
from torch import nn

from sparsact.sae import SAEConfig, SparseAutoencoder, attach, evaluate_spliced, pack_tokens
from sparsact.sae.data.places import find_places, one_place
from tiny_language import gpt2, llama


@pytest.mark.parametrize(
    ("hook", "name", "site"),
    [
        ("blocks.1.hook_resid_post", "model.layers.1", "output"),
        ("blocks.1.hook_resid_pre", "model.layers.0", "output"),
        ("blocks.0.hook_resid_pre", "model.layers.0", "input"),
        ("blocks.1.hook_mlp_out", "model.layers.1.mlp", "output"),
        ("blocks.1.hook_attn_out", "model.layers.1.self_attn", "output"),
        ("blocks.1.attn.hook_z", "model.layers.1.self_attn.o_proj", "input"),
        ("blocks.1.mlp.hook_post", "model.layers.1.mlp.down_proj", "input"),
        ("hook_embed", "model.embed_tokens", "output"),
    ],
)
def test_hooks_of_transformer_lens(hook, name, site):
    place = one_place(llama(), hook)
    assert (place.name, place.site) == (name, site)


def test_hooks_in_gpt2():
    model = gpt2()
    assert one_place(model, "blocks.1.attn.hook_z").name == "transformer.h.1.attn.c_proj"
    assert one_place(model, "blocks.1.mlp.hook_post").name == "transformer.h.1.mlp.c_proj"


def test_hooks_in_gemma():
    block = nn.ModuleDict(
        {
            "self_attn": nn.Linear(2, 2),
            "mlp": nn.Linear(2, 2),
            "post_attention_layernorm": nn.LayerNorm(2),
            "pre_feedforward_layernorm": nn.LayerNorm(2),
            "post_feedforward_layernorm": nn.LayerNorm(2),
        }
    )
    model = nn.ModuleDict({"layers": nn.ModuleList([block])})
    assert one_place(model, "blocks.0.hook_mlp_out").name == "layers.0.post_feedforward_layernorm"
    # the attribute, not a key, is what a real block has
    block.pre_feedforward_layernorm = block["pre_feedforward_layernorm"]
    attended = one_place(model, "blocks.0.hook_attn_out").name
    assert attended == "layers.0.post_attention_layernorm"


def test_patterns_match_several():
    model = llama()
    assert list(find_places(model, "model.layers.*.mlp")) == [
        f"model.layers.{i}.mlp" for i in (0, 1)
    ]
    assert list(find_places(model, "blocks.*.hook_resid_post")) == [
        "model.layers.0",
        "model.layers.1",
    ]


@pytest.mark.parametrize(
    ("layer", "site", "message"),
    [
        ("blocks.9.hook_resid_post", "output", "no block 9"),
        ("blocks.0.attn.hook_q", "output", "no module matches"),
        ("model.layers.0", "middle", "middle"),
        ("model.layerz.0", "output", "did you mean"),
    ],
)
def test_places_that_are_not_there(layer, site, message):
    with pytest.raises(ValueError, match=message):
        find_places(llama(), layer, site)


def test_a_model_without_blocks_or_embedding():
    with pytest.raises(ValueError, match="list of blocks"):
        find_places(nn.Linear(2, 2), "blocks.0.hook_resid_post")
    with pytest.raises(ValueError, match="get_input_embeddings"):
        find_places(nn.Linear(2, 2), "hook_embed")
    blocks = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2)])})
    with pytest.raises(ValueError, match=r"hook_mlp_out.*not known in Linear"):
        find_places(blocks, "blocks.0.hook_mlp_out")


def test_a_hook_name_attaches_and_splices_at_its_site():
    model = llama()
    sae = SparseAutoencoder(SAEConfig(d_in=32, d_sae=64, k=4))
    ids = torch.randint(2, 16, (1, 7))
    with attach(model, {"blocks.1.attn.hook_z": sae}, mode="read") as sites:
        model(input_ids=ids)
    seen = []
    handle = model.model.layers[1].self_attn.o_proj.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    model(input_ids=ids)
    handle.remove()
    assert torch.equal(sites["model.layers.1.self_attn.o_proj"].latents, sae.encode(seen[0]))
    tokens = pack_tokens(ids[0].tolist(), 7)
    by_hook = evaluate_spliced(model, "blocks.1.attn.hook_z", sae, tokens)
    by_name = evaluate_spliced(model, "model.layers.1.self_attn.o_proj", sae, tokens, site="input")
    assert by_hook == by_name
