import pytest
import torch

from landscape import seeds


def test_streams_are_named_not_ordered():
    first = torch.rand(5, generator=seeds.stream(3, "a"))
    torch.rand(7, generator=seeds.stream(3, "b"))
    assert torch.equal(first, torch.rand(5, generator=seeds.stream(3, "a")))
    assert not torch.equal(first, torch.rand(5, generator=seeds.stream(4, "a")))


def test_global_stream_restores_the_callers_state():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    with seeds.global_stream(0, "dropout", 1):
        torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("law", [seeds.rademacher, seeds.gaussian, seeds.uniform])
def test_laws_have_mean_zero_and_their_variance(law):
    like = torch.empty(20_000, dtype=torch.float64)
    draws = law(seeds.stream(0, law.__name__), 3, like)
    variance = 1 / 3 if law is seeds.uniform else 1.0
    assert draws.shape == (3, 20_000)
    assert draws.dtype == torch.float64
    assert draws.mean(1).abs().max() < 5 / 20_000**0.5
    assert (draws.var(1) - variance).abs().max() < 0.05


def test_orthonormal_rows():
    rows = seeds.orthonormal(seeds.stream(0, "q"), 4, torch.empty(50, dtype=torch.float64))
    torch.testing.assert_close(rows @ rows.T, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("law", [seeds.rademacher, seeds.gaussian, seeds.uniform])
def test_reordered_draws_follow_the_weights(law):
    like, order = torch.empty(9, dtype=torch.float64), torch.randperm(9)
    before = law(seeds.stream(0, "draw"), 3, like)
    with seeds.reordered(order):
        assert torch.equal(law(seeds.stream(0, "draw"), 3, like), before[:, order])
        assert law(seeds.stream(0, "draw"), 3, like[:4]).shape == (3, 4)
    assert torch.equal(law(seeds.stream(0, "draw"), 3, like), before)
