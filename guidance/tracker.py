"""The tracker: the log confidence of a guided run, read off the run itself.

Along the guided reverse SDE  dY = (-f Y + g^2 (s_c + w grad l)) dtau + g dB,  l_t = log p_t(c | .), grad l = s_c - s, Ito's formula gives

    log p(c | Y_0) - log p_T(c | Y_T) = int (w + 1/2) g^2 |grad l|^2 dtau + int g grad l . dB.

(ours; the drift of 1 / p in it: Li & Jiao 2505.01382, in substance.) For a sampler with steps  x' = m + w delta + width z,  m - delta the
mean of the unconditional step, the sum of  delta . z / width + (w + 1/2) |delta|^2 / width^2  is the log-likelihood ratio of the path under
the conditional and the unconditional sampler, and tends to it. Only the two scores and the noise of the run are needed.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import samplers
from .guide import _check_strength


@dataclass(frozen=True, eq=False)
class Tracked:
    """A guided run: its samples x (..., d), and at every time of the grid its tracker and the energy of its pull."""

    x: np.ndarray
    tracker: np.ndarray  # (steps + 1, ...)
    energy: np.ndarray  # (steps + 1, ...)


def tracked(cond, uncond, w, process, x, times, rng=None, *, noise=None, method="ddpm", progress=True):
    """A guided run that tracks log p(c | Y), from two score fields alone.

    Parameters
    ----------
    cond, uncond : score(x, t) -> like x, e.g. `p.given(c).noised(...).score`, or two networks.
    w : strength, a finite number or a function of t that returns one.
    process, x, times, rng, noise, progress : as in `samplers.sample`: x (..., d) at times[0], NumPy or torch; noise (steps, ..., d).
    method : "ddpm" or "euler-maruyama". The x of the result is that of `samplers.sample` with `cfg.combine(cond, uncond, w)`.

    Returns
    -------
    `Tracked`, kind and precision of x. With two exact scores, log p_T(c | x) + tracker[-1] is log p_0(c | Y_0) up to the step error,
    and for T -> infinity the first term is log p(c). With any two fields E[exp(-tracker[-1])] = 1 at w = 0, for any number of
    steps. energy is the running sum of |delta|^2 / width^2, which tends to int g^2 |cond - uncond|^2 dt, and does not decrease.
    A "ddpm" step down to sigma = 0 draws no noise: it leaves both as they are, so that the last noisy step should be short.

    Raises
    ------
    ValueError or TypeError for arguments of the wrong shape, type or value; FloatingPointError if the result is not finite.
    """
    if method not in samplers.STOCHASTIC:
        raise ValueError(f"method must be one of {samplers.STOCHASTIC}, got {method!r}: a run without noise has no path likelihood")
    if not callable(w):
        _one_strength(w)
    times = samplers._checked_times(times)
    samplers._check_start(x)
    cond, uncond, step = samplers._checked(cond), samplers._checked(uncond), samplers.STEPS[method]
    steps = len(times) - 1
    draw = samplers._noise_source(method, x, steps, rng, noise)
    tracker, energy = (samplers._keep(0 * x[..., 0], steps + 1) for _ in range(2))  # (steps + 1, ...) each
    for i in samplers._with_progress(steps) if progress else range(steps):
        t, s = float(times[i]), float(times[i + 1])
        strength, seen = _one_strength(w(t) if callable(w) else w), {}

        def score(x, t):
            c = cond(x, t)
            seen["pull"] = c - uncond(x, t)  # (..., d)
            return c + strength * seen["pull"]

        def noise_of_step():
            seen["z"] = draw(i)  # (..., d)
            return seen["z"]

        x, _ = step(score, process, x, t, s, noise_of_step, None)
        tracker[i + 1], energy[i + 1] = tracker[i], energy[i]
        if "z" in seen:
            ratio = _score_over_noise(method, process, t, s)
            size = ratio**2 * (seen["pull"] ** 2).sum(-1)  # (...)
            tracker[i + 1] += ratio * (seen["pull"] * seen["z"]).sum(-1) + (strength + 0.5) * size
            energy[i + 1] += size
    if not (samplers._finite(x) and samplers._finite(tracker)):
        raise FloatingPointError(f"{method} left the finite numbers in {steps} steps: take more steps, a smaller w, or a larger t_min")
    return Tracked(x, tracker, energy)


def _score_over_noise(method, process, t, s):
    # What a step multiplies the score by, relative to what it multiplies the noise by.
    if method == "euler-maruyama":
        return float(process.diffusion(t) * np.sqrt(t - s))
    (alpha_t, sigma_t), (alpha_s, sigma_s) = samplers._scales(process, t), samplers._scales(process, s)
    alpha_ts = alpha_t / alpha_s
    return float(np.sqrt(sigma_t**2 - (alpha_ts * sigma_s) ** 2) * sigma_t / (alpha_ts * sigma_s))


def _one_strength(w):
    _check_strength(w)
    if np.ndim(w) != 0:
        raise ValueError(f"w must be one number, or a function of t that returns one, got {w!r}: make one run for each strength")
    return w
