"""Guided score fields: classifier-free guidance, classifier guidance, and the conventions for their strength.

Here the strength is w in  cond + w (cond - uncond) = (1 + w) grad log p_t(x | c) - w grad log p_t(x):  w = 0 is plain
conditional sampling (Ho & Salimans 2022, eq. 6). The other common form is uncond + g (cond - uncond), with g = 1 + w.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from .process import OU, _minus_log_cos


def cfg(p, label, w, process):
    """The exact classifier-free guided score field of a law p.

    Parameters
    ----------
    p : `GaussianMixture`, `UniformMixture`, or any law with `noised` and `guided_score`.
    label : the class to guide to.
    w : strength; a finite number, a function of t that returns one, or (W,), a sweep of strengths: then the field takes
        x (n, d) or (W, n, d) to (W, n, d), all strengths sharing one table of exponentials.
    process : what noises the data, e.g. `OU()`.

    Returns
    -------
    score(x, t) -> like x, for x (..., d) and a time t >= 0.

    Raises
    ------
    ValueError for an unknown label, a label of probability zero or a w that is not finite.
    """
    p.given(label)
    if not callable(w):
        _check_strength(w)

    def score(x, t):
        return p.noised(process.alpha(t), process.sigma(t)).guided_score(x, label, w(t) if callable(w) else w)

    return score


def combine(cond, uncond, w):
    """cond + w (cond - uncond) for any two score fields (x, t) -> score: networks, NumPy arrays or torch tensors.

    w is a finite number, a function of t, or (W,), a sweep as in `cfg`.
    """
    if not callable(w):
        _check_strength(w)

    def score(x, t):
        c, u = cond(x, t), uncond(x, t)  # (..., d) each
        strength = w(t) if callable(w) else w
        _check_strength(strength)
        if np.ndim(strength) == 1:
            strength = np.reshape(strength, (-1, *[1] * (2 if c.ndim == 2 else c.ndim - 1)))
        if np.ndim(strength) > 0 and not isinstance(c, np.ndarray):
            strength = c.new_tensor(strength)
        return c + strength * (c - u)

    return score


cfg.combine = combine


def classifier_guidance(p, label, w, process):
    """Classifier guidance with the exact classifier: grad log p_t(x) + (1 + w) grad log p_t(label | x).

    Equal to `cfg` by Bayes' rule, and computed on its own: the gradient of the log-posterior of a mixture is
    (1 - p_t(label | x)) (s_in - s_out), with the scores of the laws inside and outside the class.
    Dhariwal & Nichol (2021), algorithm 1, whose scale s on the unconditional score is 1 + w.
    """
    if callable(w) or np.ndim(w) > 0:
        raise ValueError(f"w must be one number here, got {w!r}: cfg also takes sweeps and functions of t")
    inside = p.given(label)
    others = p.labels != label
    outside = None
    if p.weights[others].sum() > 0:
        weights = np.where(others, p.weights, 0)
        outside = replace(p, weights=weights / weights.sum())
    _check_strength(w)

    def score(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        law = p.noised(alpha, sigma)
        if outside is None:
            return law.score(x)
        miss = 1 - law.posterior(x, label)[..., None]  # (..., 1)
        return law.score(x) + (1 + w) * miss * (inside.noised(alpha, sigma).score(x) - outside.noised(alpha, sigma).score(x))

    return score


# Every strength as w + offset. Sources are quoted where they are certain; see the notation page.
STRENGTHS = {
    "w": 0.0,  # this course; Ho & Salimans; Chidambaram et al.; Li & Jiao
    "eta": 0.0,  # Wu et al.
    "scale": 1.0,  # uncond + scale (cond - uncond): diffusers, EDM2 and most code
    "classifier-scale": 1.0,  # grad log p + s grad log p(c | x): Dhariwal & Nichol
    "gamma": 1.0,  # the power in p(x)^(1 - gamma) p(x | c)^gamma: Skreta et al., Bradley & Nakkiran
}

# Every clock as a function of the angle theta in (0, pi / 2), and back.
CLOCKS = {
    "angle": (lambda theta: theta, lambda theta: theta),
    "t": (_minus_log_cos, lambda t: OU().angle(t)),  # this course: dX = -X dt + sqrt(2) dB
    "t-half": (lambda theta: 2 * _minus_log_cos(theta), lambda t: OU(0.5).angle(t)),  # dX = -X / 2 dt + dB: Guo et al.
    "r": (np.cos, np.arccos),  # r = exp(-t) = alpha: Chidambaram et al., Theorem 2
    "sigma": (np.tan, np.arctan),  # noise over signal: EDM, variance exploding
    "log-snr": (lambda theta: -2 * np.log(np.tan(theta)), lambda value: np.arctan(np.exp(-np.asarray(value, float) / 2))),
}


def convert(value, *, from_, to):
    """The same guidance strength, or the same noise level, in another convention.

    Strengths: "w" (ours, w = 0 unguided), "eta" (= w), "scale", "classifier-scale" and "gamma" (= 1 + w).
    Clocks: "t" (ours: alpha = exp(-t)), "t-half" (alpha = exp(-t / 2)), "r" (= alpha), "sigma" (noise over signal),
    "log-snr" (log alpha^2 / sigma^2), "angle" (alpha = cos, sigma = sin).

    Numbers or arrays in, float64 out; raises ValueError for an unknown name, a strength asked for as a clock, NaN, or a value out of range.
    """
    for table in (STRENGTHS, CLOCKS):
        if from_ in table and to in table:
            break
    else:
        raise ValueError(f"convert cannot go from {from_!r} to {to!r}: strengths are {list(STRENGTHS)}, clocks are {list(CLOCKS)}")
    value = np.asarray(value, dtype=float)[()]
    if np.any(np.isnan(value)):
        raise ValueError(f"value must be a number or an array of them, got {value!r}")
    if table is STRENGTHS:
        return value - STRENGTHS[from_] + STRENGTHS[to]
    with np.errstate(invalid="ignore", divide="ignore"):
        theta = CLOCKS[from_][1](value)
        if not np.all((0 <= theta) & (theta <= np.pi / 2)):
            raise ValueError(f"{value!r} is out of range for the clock {from_!r}")
        return CLOCKS[to][0](theta)


def _check_strength(w):
    values = np.asarray(w)
    if values.dtype.kind not in "iuf" or values.size == 0 or not np.all(np.isfinite(values)):
        raise ValueError(f"w must be a finite number, an array of them, or a function of t, got {w!r}")
