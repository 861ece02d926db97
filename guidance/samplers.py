"""From noise to data: one loop, and one small pure step function for each named method.

A step goes from time t to an earlier time s. With alpha, sigma at the two ends, every method is a choice of how to use
one score (or a few) in between:

    ddim              rotate: keep the denoiser and the predicted noise, change their weights      (Song et al. 2021a, eq. 12)
    ddpm              draw from q(x_s | x_t, x_0 = denoiser)                                      (Ho et al. 2020, eq. 7)
    euler-maruyama    Euler on the reverse SDE  dx = (f x - g^2 score) dt + g dB                   (Song et al. 2021b, eq. 6)
    euler, heun, rk4, rk8    Runge-Kutta on the probability-flow ODE  dx/dt = f x - g^2 score / 2  (Song et al. 2021b, eq. 13)
    dpm++2m           exponential integrator in log(alpha / sigma), two steps                      (Lu et al. 2022, algorithm 2)

On a grid with equal steps in the angle theta = atan2(sigma, alpha) the Runge-Kutta methods integrate dx/dtheta = v
instead, which stays smooth down to sigma = 0, so that they keep their order on the closed interval.
"""
from __future__ import annotations

import time

import numpy as np


def sample(score, process, x, times, method="ddim", rng=None, trajectory=False, *, noise=None, variable="auto", progress=True):
    """Carry x from times[0] back to times[-1] along a score field.

    Parameters
    ----------
    score : score(x, t) -> like x, e.g. from `cfg`, `cfg.combine` or a network. t is a float.
    process : the noising process, e.g. `OU()`.
    x : (..., d) float32 or float64 NumPy array or torch tensor at times[0]. Not changed.
    times : (steps + 1,), strictly decreasing, >= 0, e.g. from `process.times`.
    method : "ddim", "ddpm", "euler", "euler-maruyama", "heun", "rk4", "rk8" or "dpm++2m".
    rng : numpy.random.Generator, or torch.Generator for tensors; needed by "ddpm" and "euler-maruyama".
    trajectory : also keep the way: (steps + 1, ..., d), first entry x.
    noise : (steps, ..., d) standard normal draws to use in place of `rng`, so that two runs share one Brownian path.
    variable : "time", "angle", or "auto": what the Runge-Kutta methods integrate in; "auto" takes the angle on grids of more than
        one step that are equally spaced in it, time on others.
    progress : show a bar when a run takes more than a few seconds. Setting TQDM_DISABLE=1 turns bars off everywhere.

    Returns
    -------
    (..., d), or (steps + 1, ..., d) with trajectory=True; NumPy or torch, precision and device of x.

    Raises
    ------
    ValueError or TypeError for arguments of the wrong shape, type or value; FloatingPointError if the result is not finite.
    """
    times, step = _checked_times(times), _method(method)
    _check_start(x)
    score = _checked(score)
    draw = _noise_source(method, x, len(times) - 1, rng, noise)
    if method in RUNGE_KUTTA:
        if variable not in ("auto", "time", "angle"):
            raise ValueError(f'variable must be "auto", "time" or "angle", got {variable!r}')
        in_angle = variable == "angle" or (variable == "auto" and _equal_angles(process, times))
        step = _runge_kutta(method, in_angle)
    way = _keep(x, len(times)) if trajectory else None
    carry = None
    for i in _with_progress(len(times) - 1) if progress else range(len(times) - 1):
        x, carry = step(score, process, x, float(times[i]), float(times[i + 1]), lambda: draw(i), carry)
        if trajectory:
            way[i + 1] = x
    if not _finite(x):
        raise FloatingPointError(f"{method} left the finite numbers in {len(times) - 1} steps: take more steps, a smaller w, or a larger t_min")
    return way if trajectory else x


# --- one step per method: (score, process, x, t, s, draw, carry) -> (x at s, carry) ---


def ddim_step(score, process, x, t, s, draw, carry):
    """alpha_s denoiser + sigma_s noise, written as one combination of x and the score."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = _scales(process, t), _scales(process, s)
    return _linear((alpha_s / alpha_t, x), ((sigma_t / alpha_t) * (alpha_s * sigma_t - sigma_s * alpha_t), score(x, t))), None


def ddpm_step(score, process, x, t, s, draw, carry):
    """Mean (x + sigma_ts^2 score) / alpha_ts and variance sigma_s^2 sigma_ts^2 / sigma_t^2 of q(x_s | x_t, denoiser)."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = _scales(process, t), _scales(process, s)
    alpha_ts = alpha_t / alpha_s
    variance_ts = sigma_t**2 - (alpha_ts * sigma_s) ** 2
    terms = [(1 / alpha_ts, x), (variance_ts / alpha_ts, score(x, t))]
    if sigma_s > 0:
        terms.append((sigma_s * np.sqrt(variance_ts) / sigma_t, draw()))
    return _linear(*terms), None


def euler_maruyama_step(score, process, x, t, s, draw, carry):
    """x + (t - s) (g^2 score - f x) + g sqrt(t - s) z."""
    step, f, g = t - s, process.drift(t), process.diffusion(t)
    return _linear((1 - step * f, x), (step * g**2, score(x, t)), (g * np.sqrt(step), draw())), None


def dpm_solver_2m_step(score, process, x, t, s, draw, carry):
    """(sigma_s / sigma_t) x + alpha_s (1 - e^-h) D, with D extrapolated from this denoiser and the one before."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = _scales(process, t), _scales(process, s)
    value = score(x, t)
    if sigma_s == 0:
        return _linear((alpha_s / alpha_t, x), (alpha_s * sigma_t**2 / alpha_t, value)), None
    h = np.log(alpha_s / sigma_s) - np.log(alpha_t / sigma_t)
    weight, before = -alpha_s * np.expm1(-h), []
    if carry is not None:
        x_before, value_before, alpha, sigma, h_before = carry
        slope = weight * h / (2 * h_before)
        weight += slope
        before = [(-slope / alpha, x_before), (-slope * sigma**2 / alpha, value_before)]
    terms = [(sigma_s / sigma_t + weight / alpha_t, x), (weight * sigma_t**2 / alpha_t, value), *before]
    return _linear(*terms), (x, value, alpha_t, sigma_t, h)


# Explicit tableaux (A, b, c): one step has an error of order h^(order + 1).
RUNGE_KUTTA = {
    "euler": ([[0.0]], [1.0], [0.0]),
    "heun": ([[0.0, 0.0], [1.0, 0.0]], [0.5, 0.5], [0.0, 1.0]),
    "rk4": ([[0.0] * 4, [0.5, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]], [1 / 6, 1 / 3, 1 / 3, 1 / 6], [0.0, 0.5, 0.5, 1.0]),
    "rk8": None,  # the weights of SciPy's DOP853, at fixed steps (Hairer, Norsett & Wanner 1993)
}

STEPS = {
    "ddim": ddim_step,
    "ddpm": ddpm_step,
    "euler-maruyama": euler_maruyama_step,
    "dpm++2m": dpm_solver_2m_step,
}
STOCHASTIC = ("ddpm", "euler-maruyama")
METHODS = (*STEPS, *RUNGE_KUTTA)
BLOCK = 16_384  # numbers


def tableau(method):
    """The explicit Runge-Kutta tableau of a method: A (stages, stages), b (stages,), c (stages,)."""
    if method == "rk8":
        from scipy.integrate import DOP853

        return DOP853.A, DOP853.B, DOP853.C
    return tuple(np.array(part) for part in RUNGE_KUTTA[method])


def _runge_kutta(method, in_angle):
    """One step over the tableau. The slope is p y + q score, so every stage is one combination of x and the scores so far."""
    A, b, c = tableau(method)

    def step(score, process, x, t, s, draw, carry):
        start, end = (process.angle(t), process.angle(s)) if in_angle else (t, s)
        h, first_scale = end - start, _slope(process, start, in_angle)[1]
        stages, slopes, scores = len(b), np.zeros((len(b), len(b) + 1)), []
        for i in range(stages):
            # The last nodes are the end itself: no rounding may carry them past it.
            t_stage, scale, p, q = _slope(process, end if c[i] == 1 else start + c[i] * h, in_angle)
            y = h * A[i] @ slopes  # (stages + 1,), coefficients of x / first_scale and of the scores
            y[0] += 1
            scores.append(score(_combine(scale * y, first_scale, x, scores), t_stage))
            slopes[i] = p * y
            slopes[i, i + 1] += q
        y = h * b @ slopes
        y[0] += 1
        return _combine(_slope(process, end, in_angle)[1] * y, first_scale, x, scores), None

    return step


def _combine(coefficients, first_scale, x, scores):
    terms = [(c, value) for c, value in zip(coefficients[1:], scores) if c != 0]
    unchanged = not terms and coefficients[0] == first_scale
    return x if unchanged else _linear((coefficients[0] / first_scale, x), *terms)


def _slope(process, at, in_angle):
    """(t, scale, p, q) such that y = x / scale moves by p y + q score, in time or in the angle."""
    if not in_angle:
        return float(at), 1.0, process.drift(at), -process.diffusion(at) ** 2 / 2
    # In y = x / sqrt(alpha^2 + sigma^2), any process is a rotation: dy/dtheta = -tan(theta) (y + scale score).
    t = float(process.time(at))
    alpha, sigma = _scales(process, t)
    scale = float(np.hypot(alpha, sigma))
    return t, scale, -sigma / alpha, -sigma / alpha * scale


def _scales(process, t):
    return float(process.alpha(t)), float(process.sigma(t))


def _linear(*terms):
    """The sum of coefficient * array over (coefficient, array) pairs, block by block so that each sum stays in the cache."""
    arrays = [array for _, array in terms]
    first = arrays[0]
    same = isinstance(first, np.ndarray) and all(a.dtype == first.dtype and a.flags.c_contiguous for a in arrays)
    if not same or first.size == 0:
        out = float(terms[0][0]) * first
        for c, array in terms[1:]:
            out = out + float(c) * array
        return out
    from scipy.linalg.blas import daxpy, saxpy

    axpy = daxpy if first.dtype == np.float64 else saxpy
    out = np.empty_like(first)
    total, (c, flat), *rest = out.reshape(-1), *((float(c), array.reshape(-1)) for c, array in terms)
    for start in range(0, total.size, BLOCK):
        part = slice(start, start + BLOCK)
        np.multiply(flat[part], c, out=total[part])
        for weight, array in rest:
            axpy(array[part], total[part], a=weight)
    return out


def _checked(score):
    def checked(x, t):
        value = score(x, t)
        if tuple(value.shape) != tuple(x.shape):
            raise ValueError(
                f"score returned shape {tuple(value.shape)} for x of shape {tuple(x.shape)}; for a sweep of W strengths "
                "start from x of shape (W, n, d), e.g. numpy.repeat(x[None], W, 0)"
            )
        return value

    return checked


def _checked_times(times):
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must hold at least two times in one axis, got shape {times.shape}: use process.times(steps)")
    if not np.all(np.isfinite(times)) or times[-1] < 0:
        raise ValueError(f"times must be finite and >= 0, got {times!r}")
    if not np.all(np.diff(times) < 0):
        raise ValueError("times must be strictly decreasing, from noise to data: use times[::-1] if yours increase")
    return times


def _method(method):
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    return STEPS.get(method)


def _check_start(x):
    is_tensor = type(x).__module__.split(".")[0] == "torch"
    if not is_tensor and not (isinstance(x, np.ndarray) and x.dtype in (np.float32, np.float64)):
        raise TypeError(f"x must be a float32 or float64 array or a torch tensor, got {getattr(x, 'dtype', type(x))}: use x.astype(float)")
    if is_tensor and not x.is_floating_point():
        raise TypeError(f"x must be floating point, got {x.dtype}: use x.float()")
    if x.ndim < 2:
        raise ValueError(f"x must be (..., d) with at least one leading axis, got shape {tuple(x.shape)}: use x[:, None] or x[None]")
    if not _finite(x):
        raise ValueError("x holds NaN or infinity: a sampler must start from finite numbers")


def _finite(x):
    return bool((np.isfinite(x) if isinstance(x, np.ndarray) else x.isfinite()).all())


def _noise_source(method, x, steps, rng, noise):
    if method not in STOCHASTIC:
        return lambda i: None
    if noise is not None:
        if tuple(noise.shape) != (steps, *x.shape):
            raise ValueError(f"noise must be (steps, *x.shape) = {(steps, *x.shape)}, got {tuple(noise.shape)}")
        return lambda i: noise[i]
    if isinstance(x, np.ndarray):
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"method {method!r} draws noise: pass rng, a numpy.random.Generator such as numpy.random.default_rng(seed), got {rng!r}")
        return lambda i: rng.standard_normal(x.shape, dtype=x.dtype)
    import torch

    if isinstance(rng, torch.Generator):
        return lambda i: torch.randn(x.shape, generator=rng, dtype=x.dtype, device=x.device)
    if isinstance(rng, np.random.Generator):
        return lambda i: torch.as_tensor(rng.standard_normal(tuple(x.shape)), dtype=x.dtype, device=x.device)
    raise TypeError(f"method {method!r} draws noise: pass rng, a torch.Generator or a numpy.random.Generator, got {rng!r}")


def _equal_angles(process, times):
    steps = np.diff(process.angle(times))
    return len(steps) > 1 and bool(np.all(np.abs(steps / steps.mean() - 1) < 1e-6))


def _keep(x, length):
    way = np.empty((length, *x.shape), x.dtype) if isinstance(x, np.ndarray) else x.new_empty((length, *x.shape))
    way[0] = x
    return way


def _with_progress(steps):
    """0 .. steps - 1, with a progress bar once the second step shows that the run takes more than a few seconds."""
    yield 0
    if steps == 1:
        return
    start = time.perf_counter()
    yield 1
    rest = range(2, steps)
    if (time.perf_counter() - start) * steps > 3:
        from tqdm import tqdm  # not tqdm.auto: its notebook bar ignores TQDM_DISABLE

        rest = tqdm(rest, initial=2, total=steps, leave=False, desc="sampling")
    yield from rest
