import numpy as np
import pytest

from landscape import correlate
from landscape.errors import InputError
from landscape.results import ComparisonResult, CorrelationResult, load, save
from landscape.spec import CorrelateSpec

COLUMNS = ("train loss", "train accuracy (%)", "test loss", "test accuracy (%)", "good", "opposite", "chance", "few")


def table(rows=36, noise=0.0, columns=COLUMNS, settings=True):
    """Runs of three batch sizes, three rates and four seeds; "good" orders them as the gap does."""
    rng = np.random.default_rng(1)
    grid = [(b, r, s) for b in (16, 64, 256) for r in (0.1, 0.3, 1.0) for s in range(4)][:rows]
    gap = np.array([np.log(b) - 2 * r for b, r, _ in grid]) + 0.05 * rng.normal(size=len(grid))
    train = rng.uniform(98, 100, len(grid))
    data = {
        "train loss": rng.uniform(size=len(grid)), "train accuracy (%)": train, "test loss": gap + 9,
        "test accuracy (%)": train - gap, "good": np.exp(gap + noise * rng.normal(size=len(grid))), "opposite": -gap,
        "chance": rng.normal(size=len(grid)), "few": np.where(np.arange(len(grid)) < 20, gap, np.nan),
    }  # fmt: skip
    values = np.stack([data[name] for name in columns], 1)
    runs = [{"batch_size": b, "learning_rate": r, "seed": s, "epochs": 5} for b, r, s in grid]
    names = tuple(f"run{i}" for i in range(len(grid)))
    return ComparisonResult(
        labels=names, checkpoints=names, columns=columns, values=values, errors=np.full_like(values, np.nan),
        settings=tuple(runs) if settings else (),
    )  # fmt: skip


def test_order_and_its_opposite_and_chance():
    found = correlate.measure(table(), CorrelateSpec())
    tau = dict(zip(found.measures, found.taus, strict=True))
    assert tau["good"] == pytest.approx(1)
    assert tau["opposite"] == pytest.approx(-1)
    assert abs(tau["chance"]) < 0.4
    assert "test loss" not in tau
    assert "train accuracy (%)" not in tau
    k = found.measures.index("chance")
    assert found.lows[k] < 0 < found.highs[k]
    assert found.lows[k] <= found.taus[k] <= found.highs[k]
    assert dict(zip(found.measures, found.counts, strict=True))["few"] == 20
    np.testing.assert_allclose(found.gaps, found.values[:, 1] - found.values[:, 3])


def test_intervals_hold_the_correlation_of_the_population():
    """60 samples of 40 from one law, whose τ is that of 4,000: a 90 % interval holds it in about 90 % of them."""
    rng = np.random.default_rng(3)

    def sample(n):
        gap = rng.normal(size=n)
        values = np.stack([gap + 9, np.full(n, 9.0), gap + rng.normal(size=n)], 1)
        names = tuple(map(str, range(n)))
        return ComparisonResult(
            labels=names, checkpoints=names, columns=("test loss", "train loss", "x"), values=values,
            errors=np.full_like(values, np.nan),
        )  # fmt: skip

    truth = 2 / np.pi * np.arcsin(0.5**0.5)  # τ of a bivariate normal with correlation 1/√2
    inside = 0
    for seed in range(60):
        found = correlate.measure(sample(40), CorrelateSpec(gap="loss", confidence=0.9, bootstrap_seed=seed))
        at = found.measures.index("x")
        inside += found.lows[at] <= truth <= found.highs[at]
    assert 0.8 <= inside / 60 <= 0.98


def test_granulated_by_factor():
    found = correlate.measure(table(), CorrelateSpec())
    assert found.factors == ("batch_size", "learning_rate")
    k = found.measures.index("good")
    assert found.psis[k].tolist() == [1, 1]
    assert found.granulated[k] == 1
    bare = correlate.measure(table(settings=False), CorrelateSpec())
    assert bare.factors == ()
    assert np.isnan(bare.granulated).all()


def test_a_file_holds_it_all(tmp_path):
    found = correlate.measure(table(), CorrelateSpec(gap="loss"))
    save(found, tmp_path / "c.safetensors")
    again = load(tmp_path / "c.safetensors")
    assert isinstance(again, CorrelationResult)
    np.testing.assert_array_equal(again.taus, found.taus)
    assert again.settings[3]["learning_rate"] == 0.1
    assert again.spec == found.spec


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: table(rows=3), "at least 4"),
        (lambda: table(columns=("train loss", "test loss", "good")), "Use gap = loss"),
    ],
)
def test_refusals(made, message):
    with pytest.raises(InputError, match=message):
        correlate.measure(made(), CorrelateSpec())
