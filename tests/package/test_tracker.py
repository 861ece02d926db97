"""The tracker: the samples of `sample`, exact log confidences, martingales, bad input."""
from dataclasses import FrozenInstanceError
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from guidance import OU, VP, GaussianMixture, cfg, metrics, sample
from guidance.tracker import tracked

LINE = GaussianMixture(np.array([[-2.0], [0.3], [1.6], [-0.6]]), [0.2, 0.25, 0.3, 0.25], np.array([[0.3], [0.4], [0.25], [0.5]]), [0, 1, 0, 1])
PLANE = GaussianMixture(np.array([[1.5, 0.0], [-1.0, 1.0], [0.0, -1.2]]), [0.4, 0.3, 0.3], np.array([[0.5, 0.3], [0.4, 0.8], [0.6, 0.5]]), [0, 1, 0])


def field(p, process):
    return lambda x, t: p.noised(process.alpha(t), process.sigma(t)).score(x)


@cache
def run(p, w, steps, n=2000, process=OU(), method="ddpm", t_min=0.0):
    rng, T = np.random.default_rng(11), process.default_T
    start = p.given(0).noised(process.alpha(T), process.sigma(T)).sample(n, rng)[0]
    times = process.times(steps, t_min=t_min, spacing="angle")
    return tracked(field(p.given(0), process), field(p, process), w, process, start, times, rng, method=method)


def error(p, w, steps, **options):
    out = run(p, w, steps, **options)
    return np.log(p.prior(0)) + out.tracker[-1] - p.log_posterior(out.x, 0)


@pytest.mark.parametrize("method", ["ddpm", "euler-maruyama"])
@pytest.mark.parametrize("w", [0.0, 1.5, lambda t: 2 * np.exp(-t)], ids=["0", "1.5", "w(t)"])
def test_the_samples_are_those_of_sample(method, w):
    process, rng = VP(), np.random.default_rng(0)
    x, times, noise = rng.standard_normal((50, 2)), process.times(12), rng.standard_normal((12, 50, 2))
    cond, uncond = field(PLANE.given(0), process), field(PLANE, process)
    out = tracked(cond, uncond, w, process, x, times, noise=noise, method=method)
    assert np.array_equal(out.x, sample(cfg.combine(cond, uncond, w), process, x, times, method, noise=noise))
    again = tracked(cond, uncond, w, process, x, times, np.random.default_rng(1), method=method)
    assert np.array_equal(again.x, sample(cfg.combine(cond, uncond, w), process, x, times, method, np.random.default_rng(1)))


@pytest.mark.parametrize("method", ["ddpm", "euler-maruyama"])
def test_the_tracker_is_the_log_likelihood_ratio_of_the_path(method):
    process, steps = OU(), 7
    rng = np.random.default_rng(3)
    x, times, noise = rng.standard_normal((20, 2)), process.times(steps, T=2.0, t_min=0.1), rng.standard_normal((steps, 20, 2))
    cond, uncond = field(PLANE.given(0), process), field(PLANE, process)
    out = tracked(cond, uncond, 1.3, process, x, times, noise=noise, method=method)
    way = sample(cfg.combine(cond, uncond, 1.3), process, x, times, method, noise=noise, trajectory=True)
    total = np.zeros(20)
    for i in range(steps):
        leg, at, still = times[i : i + 2], way[i], np.zeros((1, 20, 2))
        means = [sample(s, process, at, leg, method, noise=still) for s in (cond, uncond)]
        width = (sample(cond, process, at, leg, method, noise=still + 1) - means[0])[0, 0]
        total += (((way[i + 1] - means[1]) ** 2).sum(1) - ((way[i + 1] - means[0]) ** 2).sum(1)) / (2 * width**2)
    np.testing.assert_allclose(out.tracker[-1], total, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("p", [LINE, PLANE], ids=["line", "plane"])
@pytest.mark.parametrize("w", [0.0, 1.0, lambda t: 3.0 * np.exp(-2 * t)], ids=["0", "1", "w(t)"])
def test_it_reads_the_exact_log_confidence_better_with_more_steps(p, w):
    rough, fine = (np.sqrt(np.mean(error(p, w, steps) ** 2)) for steps in (50, 400))
    assert fine < 0.12
    assert fine < 0.55 * rough


def test_euler_maruyama_and_another_process():
    assert np.sqrt(np.mean(error(LINE, 1.0, 400, process=VP()) ** 2)) < 0.12
    assert np.sqrt(np.mean(error(LINE, 1.0, 400, method="euler-maruyama", t_min=1e-4) ** 2)) < 0.2


@pytest.mark.parametrize("p, w", [(LINE, 0.0), (LINE, 1.0), (PLANE, 0.0)], ids=["line-0", "line-1", "plane-0"])
def test_it_separates_bad_runs_from_good_ones(p, w):
    out = run(p, w, 400)
    bad, rank = p.posterior(out.x, 0) < 0.5, rankdata(out.tracker[-1])
    m = bad.sum()
    assert m > 20
    assert 1 - (rank[bad].sum() - m * (m + 1) / 2) / (m * (len(bad) - m)) > 0.95


def test_unguided_the_likelihood_ratio_has_mean_one_for_any_two_fields():
    process, rng = OU(), np.random.default_rng(5)
    x, times = rng.standard_normal((40_000, 2)), process.times(8, T=2.0, t_min=0.05, spacing="angle")
    out = tracked(lambda x, t: -x, lambda x, t: -1.2 * x + 0.1 * np.sin(x), 0.0, process, x, times, rng)
    ratio = np.exp(-out.tracker[-1])
    _, low, high = metrics.mean_interval(ratio, 0.9999)
    assert low < 1 < high and high - low < 0.05 and ratio.std() > 0.1


def test_energy_and_tracker_start_at_zero_and_energy_does_not_fall():
    out = run(PLANE, 1.0, 50)
    assert out.tracker.shape == out.energy.shape == (51, 2000)
    assert np.all(out.tracker[0] == 0) and np.all(out.energy[0] == 0) and np.all(np.diff(out.energy, axis=0) >= 0)
    assert np.any(np.diff(out.tracker, axis=0) < 0)
    with pytest.raises(FrozenInstanceError):
        out.x = None


def test_tensors_and_single_precision():
    process, rng = OU(), np.random.default_rng(0)
    x, times, noise = rng.standard_normal((9, 3)), process.times(10, t_min=0.01, T=3.0), rng.standard_normal((10, 9, 3))
    fields = (lambda x, t: -x, lambda x, t: -1.5 * x)
    exact = tracked(*fields, 1.0, process, x, times, noise=noise)
    tensor = tracked(*fields, 1.0, process, torch.tensor(x), times, noise=torch.tensor(noise))
    single = tracked(*fields, 1.0, process, x.astype(np.float32), times, noise=noise.astype(np.float32))
    for name in ("x", "tracker", "energy"):
        np.testing.assert_allclose(getattr(tensor, name).numpy(), getattr(exact, name), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(getattr(single, name), getattr(exact, name), rtol=1e-4, atol=1e-4)
        assert getattr(single, name).dtype == np.float32


@pytest.mark.parametrize(
    "change, error, message",
    [
        (dict(method="ddim"), ValueError, "method"),
        (dict(w=np.array([1.0, 2.0])), ValueError, "w must be one number"),
        (dict(w=np.nan), ValueError, "w must be"),
        (dict(w=lambda t: np.inf), ValueError, "w must be"),
        (dict(times=[0.1, 1.0]), ValueError, "decreasing"),
        (dict(x=np.zeros((4, 2), int)), TypeError, "x must be"),
        (dict(x=np.full((4, 2), np.nan)), ValueError, "NaN"),
        (dict(rng=None), TypeError, "rng"),
        (dict(noise=np.zeros((3, 4, 2))), ValueError, "noise"),
        (dict(uncond=lambda x, t: x[:, :1]), ValueError, "score returned shape"),
        (dict(cond=lambda x, t: np.full_like(x, np.inf)), FloatingPointError, "finite"),
    ],
)
def test_bad_input(change, error, message):
    good = dict(cond=lambda x, t: -x, uncond=lambda x, t: -2 * x, w=1.0, process=OU(), x=np.ones((4, 2)), times=[1.0, 0.1], rng=np.random.default_rng(0))
    with np.errstate(invalid="ignore"), pytest.raises(error, match=message):
        tracked(**{**good, **change})
