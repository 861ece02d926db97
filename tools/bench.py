"""Benchmarks against peers and against the floor of the machine, as ratios within one run: `make bench` writes book/benchmarks.md.

All methods of a row run in turn, in one process on one thread, and the median of their CPU times is taken; a ratio therefore
survives a slow or shared machine, which an absolute time does not.
"""
from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import platform
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture
from tqdm import tqdm

import guidance
from guidance import OU, GaussianMixture, cfg, sample

torch.set_num_threads(1)
SIZES = [(100_000, 8, 2), (10_000, 100, 64), (1_000, 1_000, 784)]
PAGE = Path(__file__).parents[1] / "book" / "benchmarks.md"


def interleaved(methods, rounds):
    """The median CPU time of each method in seconds, and what each returned, run in turn."""
    times = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.process_time()
            method()
            times[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def floor_seconds(N, K, d, kind, rng):
    """Time of the arithmetic that no method avoids: its matrix products at the measured matmul rate, and N K exponentials."""
    a = rng.standard_normal((1024, 1024))
    z, out = rng.uniform(-10, 0, 20_000), np.empty(20_000)
    copied = rng.standard_normal(4_000_000)
    hot = lambda: [np.exp(z, out=out) for _ in range(50)]
    rates = interleaved({"matmul": lambda: a @ a, "exp": hot, "copy": lambda: copied.copy()}, 9)
    flops = {"isotropic": 4, "diagonal": 8, "full": 2 * d}[kind] * N * K * d
    arithmetic = flops * rates["matmul"] / (2 * 1024**3)
    memory = 2 * N * d * 8 * rates["copy"] / (2 * copied.nbytes)
    return max(arithmetic, memory) + N * K * rates["exp"] / (50 * len(z))


def covariance(kind, K, d, rng):
    if kind == "isotropic":
        return rng.uniform(0.5, 2, (K, 1))
    if kind == "diagonal":
        return rng.uniform(0.5, 2, (K, d))
    a = rng.standard_normal((K, d, d))
    return a @ a.transpose(0, 2, 1) / d + 0.5 * np.eye(d)


def autograd_score(p, kind):
    """The score by torch.distributions and autograd."""
    D, means = torch.distributions, torch.from_numpy(p.means)
    if kind == "full":
        parts = D.MultivariateNormal(means, torch.from_numpy(p.covs.matrices(p.d)))
    else:
        scale = torch.from_numpy(np.sqrt(np.broadcast_to(p.covs.variances, p.means.shape)))
        parts = D.Independent(D.Normal(means, scale), 1)
    law = D.MixtureSameFamily(D.Categorical(torch.from_numpy(p.weights)), parts)

    def score(x):
        points = torch.tensor(x, requires_grad=True)
        return torch.autograd.grad(law.log_prob(points).sum(), points)[0].numpy()

    return score


def sklearn_log_density(p, kind):
    """scikit-learn's log-density (it has no score)."""
    model = SklearnMixture(p.K, covariance_type={"isotropic": "spherical", "diagonal": "diag", "full": "full"}[kind])
    model.weights_, model.means_ = p.weights, p.means
    if kind == "full":
        model.precisions_cholesky_ = np.linalg.inv(np.linalg.cholesky(p.covs.matrices(p.d))).transpose(0, 2, 1)
    else:
        model.precisions_cholesky_ = 1 / np.sqrt(p.covs.variances[:, 0] if kind == "isotropic" else p.covs.variances)
    return model.score_samples


def score_row(N, K, d, kind):
    rng = np.random.default_rng(0)
    p = GaussianMixture(rng.standard_normal((K, d)), covs=covariance(kind, K, d, rng), labels=np.arange(K) % 2)
    x = 1.5 * rng.standard_normal((N, d))
    peer, log_density = autograd_score(p, kind), sklearn_log_density(p, kind)
    few = x[:50]
    assert np.allclose(p.score(few), peer(few), rtol=1e-8, atol=1e-8)
    assert np.allclose(p.log_prob(few), log_density(few), rtol=1e-8)
    one, ten = cfg(p, 0, 3.0, OU()), cfg(p, 0, np.arange(10.0), OU())
    peer_points = x if d < 784 else x[:80]  # where all at once would not fit, a part stands for the whole
    times = interleaved(
        {
            "score": lambda: p.score(x),
            "autograd": lambda: peer(peer_points),
            "sklearn": lambda: log_density(x),
            "guided": lambda: one(x, 0.3),
            "ten": lambda: ten(x, 0.3),
        },
        15 if d == 2 else 3,
    )
    floor = floor_seconds(N, K, d, kind, rng)
    tracemalloc.start()
    out = p.score(x)
    extra = (tracemalloc.get_traced_memory()[1] - out.nbytes) / 2**20
    tracemalloc.stop()
    score = times["score"]
    autograd = times["autograd"] * N / len(peer_points)
    return [
        f"({N:,}, {K:,}, {d})", kind, f"{score / floor:.1f}", f"{autograd / score:.0f}", f"{times['sklearn'] / score:.1f}",
        f"{times['guided'] / score:.2f}", f"{times['ten'] / times['guided']:.2f}", f"{extra:.1f}",
    ]


def sampler_rows():
    """Cost of a sampler's own arithmetic, with a score that is free, against the exact guided score."""
    rng, process = np.random.default_rng(0), OU()
    p = GaussianMixture(rng.standard_normal((8, 2)), covs=rng.uniform(0.5, 2, (8, 1)), labels=np.arange(8) % 2)
    x, times, steps = rng.standard_normal((100_000, 2)), process.times(20), 20
    exact, free = cfg(p, 0, 3.0, process), np.zeros_like(x)

    def plain_ddim():
        y = x
        for t, s in zip(times[:-1], times[1:]):
            a, b, c, e = process.alpha(t), process.sigma(t), process.alpha(s), process.sigma(s)
            eps = -b * exact(y, t)
            y = c * (y - b * eps) / a + e * eps
        return y

    rows = []
    plain = interleaved({"plain": plain_ddim}, 5)["plain"]
    for method in ("ddim", "ddpm", "euler", "euler-maruyama", "heun", "dpm++2m"):
        calls = []
        sample(lambda y, t: calls.append(t) or exact(y, t), process, x[:10], times, method, rng=rng)
        measured = interleaved(
            {
                "run": lambda: sample(exact, process, x, times, method, rng=np.random.default_rng(0)),
                "own": lambda: sample(lambda y, t: free, process, x, times, method, rng=np.random.default_rng(0)),
                "draws": lambda: [np.random.default_rng(0).standard_normal(x.shape) for _ in range(steps)] if method in ("ddpm", "euler-maruyama") else None,
            },
            5,
        )
        own, run = measured["own"] - measured["draws"], measured["run"]
        rows.append([method, str(len(calls)), f"{100 * own / (run - measured['own']):.0f} %", f"{100 * measured['draws'] / (run - measured['own']):.0f} %", f"{run / plain:.2f}"])
    return rows


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def main():
    scores = [score_row(*size, kind) for size, kind in tqdm([(s, k) for s in SIZES for k in ("isotropic", "diagonal", "full") if not (k == "full" and s[2] == 784)])]
    page = f"""# Benchmarks

What the exact scores and samplers of this course cost, as ratios within one run on one thread, so that they mean the same on another machine.
This page is written by `make bench`; it was last made with Python {platform.python_version()}, NumPy {np.__version__}, PyTorch {torch.__version__.split("+")[0]}
on {platform.system()} {platform.machine()}, package version {guidance.__version__}.

## The score of a Gaussian mixture

N points, K components, d dimensions, float64. The *floor* is the time of the arithmetic that no method avoids: the matrix products at this
machine's measured matmul rate (4NKd, 8NKd and 2NKd² operations) or the memory traffic of the points, whichever is slower, and N K exponentials.

{table(["(N, K, d)", "covariance", "times the floor", "times faster than autograd", "scikit-learn's log-density alone takes", "guided / unguided", "ten strengths / one", "extra memory, MiB"], scores)}

*Autograd* is `torch.distributions.MixtureSameFamily` with `torch.autograd.grad`, all points at once; in 784 dimensions, where that needs more than 14 GiB, 80 points,
scaled up. scikit-learn has no score: its column is the time of the log-density alone, in units of our score.
*Guided* includes noising the mixture; *ten strengths* are ten values of w at the same points. Memory is beyond the result.
The case (1,000, 1,000, 784) with a full covariance a component is not in the table: its covariances alone take 4.6 GiB.

## The sampler loop

100,000 points in 2-D, 20 steps of a guided mixture with 8 components. *Own cost* is the sampler's arithmetic (a run with a score that costs nothing, less the draws), in
per cent of the score's; the last column compares a run with a plain NumPy loop of DDIM on the same guided score.

{table(["method", "score calls", "own cost", "drawing noise", "run / plain DDIM loop"], sampler_rows())}
"""
    PAGE.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
