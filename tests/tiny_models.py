"""Small random models of other people's making, for whoever calibrates and sparsifies."""

import inspect
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

VOCABULARY = 61


def llama(**changes: object) -> nn.Module:
    return _language_model("Llama", num_key_value_heads=2, **changes)


def qwen2(**changes: object) -> nn.Module:
    return _language_model("Qwen2", num_key_value_heads=2, **changes)


def gpt2(**changes: object) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=32, n_layer=2, n_head=4, n_positions=128, vocab_size=VOCABULARY, **SPECIAL, **changes
    )
    return spread(GPT2LMHeadModel(config))


def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    return spread(BertModel(BertConfig(vocab_size=VOCABULARY, **SIZES)))


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return spread(
        ViTForImageClassification(ViTConfig(image_size=16, patch_size=4, num_labels=5, **SIZES))
    )


def mamba() -> nn.Module:
    """Or a skip, where the cache of Mamba is of a kind of its own, which `keep_first` refuses."""
    from transformers import MambaConfig, MambaForCausalLM
    from transformers.models.mamba import modeling_mamba

    if hasattr(modeling_mamba, "MambaCache"):
        pytest.skip("an old transformers: Mamba's cache does not say how many tokens it holds")
    config = MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4, **SPECIAL
    )
    return spread(MambaForCausalLM(config))


def mlp(*widths: int) -> nn.Sequential:
    widths = widths or (16, 48, 24, 5)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


def token_batches(count: int = 3, rows: int = 4, length: int = 24) -> list[dict[str, Tensor]]:
    """Batches of tokens; in each the first row is padded on the left."""
    batches = []
    for _ in range(count):
        ids = torch.randint(4, VOCABULARY, (rows, length))
        mask = torch.ones_like(ids)
        mask[0, : length // 3] = 0
        batches.append({"input_ids": ids, "attention_mask": mask})
    return batches


def cache_name(model: nn.Module) -> str:
    """What this version of transformers calls the argument that holds the tokens before."""
    known = ("cache", "past_key_values", "cache_params")
    return next(name for name in inspect.signature(model.forward).parameters if name in known)


def spread(model: nn.Module) -> nn.Module:
    """Weights of usual size: as initialised, small models hardly depend on their inputs."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            elif parameter.ndim == 1 and not parameter.any():
                parameter.normal_(std=0.1)
    return model.eval()


SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def _language_model(kind: str, **changes: object) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        **{**SIZES, **SPECIAL, "vocab_size": VOCABULARY, "tie_word_embeddings": False, **changes}
    )
    return spread(getattr(transformers, f"{kind}ForCausalLM")(config))
