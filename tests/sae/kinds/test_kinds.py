"""The table of kinds, and the choices that follow from it."""

import typing

import pytest
import torch
from torch import nn

import sparsact as sa
from sae_kind_cases import KIND_CASES
from sparsact.sae import KINDS, SAEConfig, SparseAutoencoder
from sparsact.sae.kinds import PRESETS, CustomKind, KindName, kind_of, kinds_help, sparsity_term


def test_every_preset_has_a_row_in_the_table_of_tests():
    assert tuple(KIND_CASES) == PRESETS


def test_choices_and_help_follow_from_the_table():
    assert typing.get_args(KindName) == tuple(KINDS) == (*PRESETS, "custom")
    assert all(f"{name}: {KINDS[name].summary}" in kinds_help() for name in PRESETS)
    assert all(name == kind.name for name, kind in KINDS.items())


@pytest.mark.parametrize("name", PRESETS)
def test_the_kind_of_a_preset_is_found_by_its_module(name):
    sae = SparseAutoencoder(SAEConfig(4, 8, name, k=2))
    assert type(sae.kind) is KINDS[name]
    assert sae.kind.activation is sae.activation


@pytest.mark.parametrize("name", PRESETS)
def test_a_custom_autoencoder_with_a_known_module_has_its_kind(name):
    module = SparseAutoencoder(SAEConfig(4, 8, name, k=2)).activation
    sae = SparseAutoencoder(SAEConfig(4, 8, "custom"), module)
    assert type(sae.kind) is KINDS[name]
    term = sparsity_term("custom", module)
    assert (term is not None) == KINDS[name].penalizes_custom


def test_a_module_that_is_not_known_has_the_custom_kind():
    module = sa.nn.Firmshrink(0.2, 0.8)
    kind = kind_of(module)
    assert type(kind) is CustomKind
    assert not kind.can_set_l0()
    assert not kind.has_sparse_encoder()
    assert not kind.rescale_(torch.tensor(2.0))
    with pytest.raises(TypeError, match="unknown"):
        kind.set_l0_(torch.zeros(3, 8), 2.0, torch.zeros(8))
    with pytest.raises(NotImplementedError, match="custom"):
        kind.encode_sparse(nn.Linear(4, 8), torch.zeros(3, 4), None)


@pytest.mark.parametrize("name", PRESETS)
def test_either_k_or_a_penalty(name):
    sae = SparseAutoencoder(SAEConfig(4, 8, name, k=2))
    assert (sparsity_term(name, sae.activation) is None) == sae.config.selects
