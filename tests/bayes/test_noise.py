from __future__ import annotations

import pytest
import torch

from dwp_kedro.bayes import noise
from dwp_kedro.bayes.noise import noise_like, standard_normal

LIKE = torch.zeros(())


def _draw(count: int, seed: int = 0) -> torch.Tensor:
    return standard_normal((count,), torch.Generator().manual_seed(seed), LIKE)


@pytest.fixture
def _small_chunks(monkeypatch):
    monkeypatch.setattr(noise, "_CHUNK", 1000)


@pytest.mark.usefixtures("_small_chunks")
def test_bits_depend_on_the_seed_and_not_on_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        draws = []
        for n in (1, 3):
            torch.set_num_threads(n)
            draws.append(_draw(5500))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], _draw(5500, seed=1))


@pytest.mark.usefixtures("_small_chunks")
def test_chunks_are_independent_and_standard_normal():
    n_chunks, size = 400, 1000
    chunks = _draw(n_chunks * size).view(n_chunks, size)
    n = chunks.numel()
    assert abs(chunks.mean().item()) < 5 * n**-0.5
    assert abs(chunks.var().item() - 1) < 5 * (2 / n) ** 0.5
    assert abs((chunks**4).mean().item() - 3) < 5 * (96 / n) ** 0.5
    assert abs((chunks[:-1] * chunks[1:]).mean().item()) < 5 * n**-0.5
    assert len({chunk[0].item() for chunk in chunks}) == n_chunks


@pytest.mark.usefixtures("_small_chunks")
def test_the_generator_moves_on():
    generator = torch.Generator().manual_seed(0)
    first, second = (standard_normal((3, 1000), generator, LIKE) for _ in range(2))
    assert first.shape == (3, 1000)
    assert not torch.equal(first, second)


def test_noise_is_laid_out_as_what_it_is_added_to():
    x = torch.empty(2, 3, 4, 5, 6, memory_format=torch.channels_last_3d)
    drawn = noise_like(x, torch.Generator().manual_seed(0))
    assert (drawn.shape, drawn.stride()) == (x.shape, x.stride())
    assert drawn.unique().numel() == x.numel()
