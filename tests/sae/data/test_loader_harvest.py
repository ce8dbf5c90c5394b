"""Activations of models that are no language models, from a DataLoader."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForMaskedLM, ViTConfig, ViTModel

from sparsact.sae import harvest
from sparsact.sae.data.places import one_place


def joined(rows):
    return torch.cat([shard.read() for shard in rows.shards])


def expected_at(model, layer, inputs):
    """The output of a module, from a hook of our own."""
    seen = []
    handle = one_place(model, layer).module.register_forward_hook(
        lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    return seen[0]


def test_any_module_with_a_loader(tmp_path):
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    data = torch.randn(23, 6)
    loader = DataLoader(TensorDataset(data, torch.arange(23)), batch_size=5)
    rows = harvest(model, "1", loader, tmp_path, shard_rows=10)
    assert [shard.rows for shard in rows.shards] == [10, 10, 3]
    torch.testing.assert_close(joined(rows), model[1](model[0](data)).detach())
    assert harvest(model, "1", loader, tmp_path, shard_rows=10).total == 23
    other = DataLoader(TensorDataset(data + 1), batch_size=5)
    with pytest.raises(ValueError, match="another text"):
        harvest(model, "1", other, tmp_path, shard_rows=10)


def test_the_input_of_a_module_in_bfloat16(tmp_path):
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    data = torch.randn(9, 6)
    rows = harvest(model, "2", [data], tmp_path, site="input", dtype=torch.bfloat16)
    stored = joined(rows)
    assert stored.dtype == torch.bfloat16
    assert torch.equal(stored, model[:2](data).to(torch.bfloat16))
    assert next(rows.batches(4)).dtype == torch.float32


@pytest.mark.parametrize(("positions", "count"), [("all", 10), ("first", 2), ("rest", 8)])
def test_a_vision_transformer(tmp_path, positions, count):
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    model = ViTModel(config, add_pooling_layer=False).eval()
    images = torch.randn(2, 3, 16, 16)
    rows = harvest(model, "blocks.1.hook_resid_post", [images], tmp_path, positions=positions)
    assert rows.total == count
    found = expected_at(model, "blocks.1.hook_resid_post", {"pixel_values": images})
    found = {"all": found, "first": found[:, :1], "rest": found[:, 1:]}[positions]
    torch.testing.assert_close(joined(rows), found.flatten(0, 1))


def test_a_masked_language_model_with_padding(tmp_path):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    model = BertForMaskedLM(config).eval()
    inputs = {
        "input_ids": torch.randint(1, 40, (3, 6)),
        "attention_mask": torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4]),
    }
    rows = harvest(model, "bert.encoder.layer.1", [inputs], tmp_path)
    found = expected_at(model, "bert.encoder.layer.1", inputs)
    torch.testing.assert_close(joined(rows), found[inputs["attention_mask"].bool()])


def test_places_of_a_picture_are_rows(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    images = torch.randn(2, 3, 6, 6)
    rows = harvest(model, "1", [images], tmp_path)
    expected = model(images).detach().permute(0, 2, 3, 1).reshape(-1, 5)
    torch.testing.assert_close(joined(rows), expected)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "no batches"),
        (DataLoader(torch.randn(9, 6), shuffle=True), {}, "shuffles"),
        ([3], {}, "must be a tensor"),
        (iter([torch.randn(2, 6)]), {}, "more than once"),
        ([torch.randn(2, 6)], {"dtype": torch.int64}, "floating-point dtype"),
        ([torch.full((2, 6), torch.nan)], {}, "NaN or infinite in row 0"),
        ([torch.randn(2, 3, 6)], {"positions": "last"}, "positions"),
    ],
)
def test_data_that_cannot_be_read(tmp_path, data, options, message):
    model = nn.Sequential(nn.Linear(6, 4))
    with pytest.raises(ValueError, match=message):
        harvest(model, "0", data, tmp_path, **options)


def test_a_mask_of_another_length(tmp_path):
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x, attention_mask):
            return self.layer(x[:, ::2])

    batch = {"x": torch.randn(2, 6, 4), "attention_mask": torch.ones(2, 6)}
    with pytest.raises(ValueError, match="positions"):
        harvest(Pooling(), "layer", [batch], tmp_path)
