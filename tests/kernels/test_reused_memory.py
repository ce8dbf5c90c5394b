import torch

from sparsact.kernels.cpu.reused_memory import SpareMemory

LARGE = (1024, 1025)


def test_large_memory_is_used_again_once_its_tensors_are_gone():
    memory = SpareMemory()
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


def test_few_blocks_are_kept():
    memory = SpareMemory()
    for more in range(20):
        memory.empty((1024, 1025 + more))
    assert 0 < len(memory.shapes()) <= 4
    memory.empty((3, 5))
    assert all(shape[0] == 1024 for shape in memory.shapes())


def test_a_gradient_survives_later_steps():
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
