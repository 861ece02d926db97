"""Oracles: what guidance samples, computed rather than sampled.

`FlowMap` is the guided probability-flow ODE (DDIM in continuous time) on a line: its map from noise to data is
increasing, so quantiles, densities, entropies and expectations follow from the map alone. `push`, `log_density`,
`entropy` and `expect` do the same in any dimension, or in up to three where an integral is needed. `FokkerPlanck` is the
law of the guided reverse SDE (DDPM in continuous time) on a line; `evolve` follows means along the reverse SDE of any score
field there, and `improvement` is both sides of what guidance takes from the mean of 1 / p(c | x).

Everything is computed in the angle (see `lines`), where every process is the same one, run over another range of angles.

The change of variables along a flow is standard (Chen et al. 2018, Neural ODEs, theorem 1; Song et al. 2021, eq. 39);
the algorithms here are ours.
"""
from __future__ import annotations

import numpy as np

from .evolve import evolve, improvement
from .flow_map import MOST_CALLS, FlowMap
from .fokker_planck import FokkerPlanck
from .lines import LOG_SQRT_2PI, TOLERANCE, _Run, _refuse_noiseless, _solve
from .process import OU

__all__ = ["FlowMap", "FokkerPlanck", "evolve", "improvement", "push", "log_density", "entropy", "expect"]


def push(p, label, w, xi, T=None, process=OU(), t_min=0.0, *, initial="normal", breaks=()):
    """Carries starts through the guided probability-flow ODE, with the exact change of volume.

    Parameters
    ----------
    p : `GaussianMixture`, any d, or `UniformMixture` with t_min > 0.  label, w, T, process, t_min, breaks : as in `FlowMap`.
    xi : (n, d) float. The run starts at x_T = xi max(1, sigma(T)).
    initial : "normal"; "class" needs d = 1 (`FlowMap`).

    Returns
    -------
    x (n, d), and log |det dx / dxi| (n,): with xi ~ N(0, I), log density(x) = log N(xi; 0, I) - log_det. float64.

    Raises ValueError for bad arguments and RuntimeError if the solver fails.
    """
    return _push(p, label, w, xi, T, process, t_min, initial, breaks, back=False)


def log_density(p, label, w, x, T=None, process=OU(), t_min=0.0, *, breaks=()):
    """The log-density (n,) of the guided flow's output at x (n, d), any d, started from pure noise. Arguments as in `push`."""
    xi, log_det = _push(p, label, w, x, T, process, t_min, "normal", breaks, back=True)
    return -0.5 * (xi**2).sum(1) - p.d * LOG_SQRT_2PI + log_det


def entropy(p, label, w, T=None, process=OU(), t_min=0.0, *, breaks=(), tolerance=1e-7):
    """The differential entropy of the guided flow's output, a float, for d <= 3, to `tolerance`. Arguments as in `push`.

    log(2 pi e) d / 2 + E[log |det dx / dxi|] by a tensor Gauss-Hermite rule, refined until the answer stays.
    Raises RuntimeError if it does not settle, and ValueError for d > 3.
    """
    volume = _settled(p, label, w, lambda x, log_det: log_det, T, process, t_min, breaks, tolerance)
    return p.d * (LOG_SQRT_2PI + 0.5) + float(volume)


def expect(p, label, w, f, T=None, process=OU(), t_min=0.0, *, breaks=(), tolerance=1e-7):
    """E[f(X)] over the guided flow's output for d <= 3, to `tolerance`, for a smooth f: (n, d) -> (n,) or (n, m).

    Returns a float, or (m,). Arguments as in `push`, quadrature and errors as in `entropy`.
    """
    value = _settled(p, label, w, lambda x, log_det: np.asarray(f(x), float), T, process, t_min, breaks, tolerance)
    return float(value) if np.ndim(value) == 0 else value


def _push(p, label, w, start, T, process, t_min, initial, breaks, back):
    start = np.asarray(start)
    if start.dtype.kind != "f" or start.ndim != 2 or start.shape[1] != p.d or not np.all(np.isfinite(start)):
        name = "x" if back else "xi"
        raise ValueError(f"{name} must be a finite float array (n, {p.d}), got dtype {start.dtype} and shape {start.shape}")
    if initial == "class" and p.d > 1:
        raise ValueError('initial="class" needs d = 1: with several dimensions start from "normal"')
    _refuse_noiseless(p, t_min)
    run, inside, (n, d) = _Run.of(w, T, process, t_min, initial, breaks), p.given(label), start.shape
    before, after = (1 / run.end_scale, 1 / run.start_scale) if back else (run.start_scale, run.end_scale)
    legs = [(stop, first, w_of) for first, stop, w_of in reversed(run.legs)] if back else run.legs
    state = np.append(before * start.astype(float), np.zeros((n, 1)), axis=1).ravel()  # (n (d + 1),)
    for first, last, w_of in legs:
        rate = lambda theta, s: _velocity(p, inside, label, w_of(theta), theta, s.reshape(n, d + 1))
        state = _solve(rate, state, first, last, TOLERANCE, MOST_CALLS) if n else state
    state = state.reshape(n, d + 1)
    return after * state[:, :d], state[:, d] + d * np.log(before * after)


def _velocity(p, inside, label, w, theta, state):
    y = np.ascontiguousarray(state[:, :-1])  # (n, d)
    alpha, sigma = max(np.cos(theta), 1e-12), np.sin(theta)
    law, part = p.noised(alpha, sigma), inside.noised(alpha, sigma)
    divergence = part.score_divergence(y)  # (n,)
    if w:
        divergence = divergence + w * (divergence - law.score_divergence(y))
    v = y + law.guided_score(y, label, w)  # (n, d)
    return -sigma / alpha * np.append(v, (p.d + divergence)[:, None], axis=1).ravel()


def _settled(p, label, w, f, T, process, t_min, breaks, tolerance):
    if p.d > 3:
        raise ValueError(f"a quadrature over starts needs d <= 3, got d = {p.d}: average over samples instead")
    sizes = {1: (40, 60, 90, 135, 200), 2: (24, 36, 54, 81), 3: (12, 18, 27)}[p.d]
    last = None
    for size in sizes:
        nodes, weights = np.polynomial.hermite_e.hermegauss(size)
        xi = np.stack([a.ravel() for a in np.meshgrid(*[nodes] * p.d, indexing="ij")], axis=1)  # (size^d, d)
        share = np.prod(np.meshgrid(*[weights / weights.sum()] * p.d, indexing="ij"), axis=0).ravel()  # (size^d,)
        counts = share > 1e-17
        x, log_det = push(p, label, w, xi[counts], T, process, t_min, breaks=breaks)
        values = f(x, log_det)
        value = share[counts] @ values
        if last is not None and np.all(np.abs(value - last) <= tolerance * np.maximum(1.0, share[counts] @ np.abs(values))):
            return value
        change, last = np.inf if last is None else np.abs(value - last).max(), value
    raise RuntimeError(f"the quadrature over starts does not settle: {size} nodes an axis still change it by {change:.1e}")
