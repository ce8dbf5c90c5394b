import torch
from torch import nn

from sparsact.calibration import find_sites
from sparsact.evaluation.site_kinds import TOTAL, kind_rows, site_rows
from tiny_language import gpt2, llama

IDS = torch.ones(1, 4, dtype=torch.long)


def kinds(model, batch=IDS):
    sites = find_sites(model, batch)
    achieved = {site.name: i / len(sites) for i, site in enumerate(sites)}
    return kind_rows(site_rows(sites, achieved))


def test_kinds_of_a_llama():
    actual = {row.kind: row for row in kinds(llama())}
    assert list(actual) == [
        "self_attn.q_proj|k_proj|v_proj",
        "self_attn.o_proj",
        "mlp.gate_proj|up_proj",
        "mlp.down_proj",
        TOTAL,
    ]
    attention = actual["self_attn.o_proj"]
    assert (attention.sites, attention.low, attention.high) == (2, 1 / 8, 5 / 8)
    assert attention.mean == 3 / 8
    assert actual[TOTAL].sites == 8
    assert actual["mlp.gate_proj|up_proj"].share == 2 * actual["mlp.down_proj"].share
    assert abs(sum(row.share for row in actual.values()) - 2) < 1e-12


def test_kinds_of_a_gpt2():
    names = [row.kind for row in kinds(gpt2())]
    assert names == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", TOTAL]


def test_sites_outside_of_blocks_have_no_layer():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.leave = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.leave(self.enter(x).relu())

    sites = find_sites(Net(), torch.ones(1, 4))
    rows = site_rows(sites, dict.fromkeys([site.name for site in sites], 0.5))
    assert [(row.kind, row.layer, row.weights) for row in rows] == [
        ("enter", None, 32),
        ("leave", None, 16),
    ]
