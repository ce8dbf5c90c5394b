import torch

from sparsact.kernels._cpu import memory

LARGE = (1024, 1025)


def test_large_memory_is_used_again_once_nobody_has_it():
    first = memory.empty(LARGE)
    address, part = first.data_ptr(), first[3:]
    del first
    second = memory.empty(LARGE)  # a view still has the first
    assert second.data_ptr() != address
    part.fill_(1.0)
    second.fill_(2.0)
    assert (part == 1).all()
    del part
    third = memory.empty(LARGE)
    assert third.data_ptr() == address
    assert third.shape == LARGE
    assert third.dtype == torch.float32


def test_little_is_kept(monkeypatch):
    monkeypatch.setattr(memory, "_spare", {})
    for more in range(20):
        memory.empty((1024, 1025 + more))
    assert 0 < len(memory._spare) <= 4
    memory.empty((3, 5))
    assert all(spare.shape[0] == 1024 for spare in memory._spare.values())


def test_a_gradient_survives_what_comes_after():
    from sparsact.kernels import csr_linear

    weight = torch.randn(2048, 600, requires_grad=True)
    values, indices = torch.randn(64, 8), torch.randint(2048, (64, 8))
    csr_linear((values, indices), weight).sum().backward()
    kept, before = weight.grad, weight.grad.clone()
    for _ in range(3):
        weight.grad = None
        csr_linear((2 * values, indices), weight).sum().backward()
    assert torch.equal(kept, before)
    torch.testing.assert_close(weight.grad, 2 * before)
