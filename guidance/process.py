"""Gaussian noising processes x_t = alpha(t) x_0 + sigma(t) eps, and the time grids that walk back along them.

Time t runs from 0 (data) to T (noise). Every process is known by two numbers at each time, `alpha` and `sigma`, and
by the *angle* theta = atan2(sigma, alpha), which runs from 0 (data) to pi / 2 (noise). In a process with
alpha^2 + sigma^2 = 1 the noised sample is x = cos(theta) x_0 + sin(theta) eps: a rotation of data into noise.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SPACINGS = ("uniform", "angle", "log-snr")


def _checked_time(t):
    """The time as float or float array; raises on negative, NaN or infinite entries."""
    if np.isscalar(t):
        t = float(t)
        if 0 <= t < np.inf:
            return t
    else:
        t = np.asarray(t, dtype=float)
    if not (np.all(t >= 0) and np.all(np.isfinite(t))):
        raise ValueError(f"t must be finite and >= 0 (0 is data, T is noise), got {t!r}")
    return t


class Process:
    """What the processes share: everything that follows from alpha(t) and sigma(t)."""

    default_T: float

    def angle(self, t):
        """theta(t) = atan2(sigma, alpha) in [0, pi / 2]; number or array in, same out."""
        return np.arctan2(self.sigma(t), self.alpha(t))

    def log_snr(self, t):
        """log(alpha^2 / sigma^2), decreasing in t, +inf at t = 0; number or array in, same out."""
        with np.errstate(divide="ignore"):
            return 2 * (np.log(self.alpha(t)) - np.log(self.sigma(t)))

    def times(self, steps, T=None, t_min=0.0, spacing="uniform"):
        """A decreasing time grid with both ends included.

        Parameters
        ----------
        steps : int, at least 1. The grid has steps + 1 entries.
        T : float, the noisy end. Default: 10 for `OU`, 1 for `VP` (a little less for `Cosine`), 80 for `VE`.
        t_min : float in [0, T), the data end.
        spacing : "uniform" in t; "angle", uniform in theta = atan2(sigma, alpha); "log-snr", uniform in
            log(alpha^2 / sigma^2), which is infinite at t = 0 and so needs t_min > 0.

        Returns
        -------
        (steps + 1,) float64, from T down to t_min.

        Raises
        ------
        ValueError if steps < 1, the ends are not 0 <= t_min < T, the spacing is unknown, or "log-snr" starts at 0.
        """
        T = self.default_T if T is None else T
        if int(steps) != steps or steps < 1:
            raise ValueError(f"steps must be an integer >= 1, got {steps!r}")
        if not 0 <= t_min < T < np.inf:
            raise ValueError(f"times needs 0 <= t_min < T, got t_min={t_min!r}, T={T!r}")
        if spacing not in SPACINGS:
            raise ValueError(f"spacing must be one of {SPACINGS}, got {spacing!r}")
        steps = int(steps)
        if spacing == "uniform":
            return np.linspace(T, t_min, steps + 1)
        if spacing == "angle":
            grid = self.time(np.linspace(self.angle(T), self.angle(t_min), steps + 1))
        else:
            if t_min == 0:
                raise ValueError('spacing="log-snr" needs t_min > 0: the log-SNR is infinite at t = 0')
            grid = self.time(np.arctan(np.exp(-np.linspace(self.log_snr(T), self.log_snr(t_min), steps + 1) / 2)))
        grid[0], grid[-1] = T, t_min
        return grid


@dataclass(frozen=True)
class OU(Process):
    """Ornstein-Uhlenbeck: dX = -rate X dt + sqrt(2 rate) dB, alpha = exp(-rate t), sigma^2 = 1 - exp(-2 rate t).

    rate = 1 is the course's clock (Wu et al. 2403.01639, Chidambaram et al. 2409.13074, in substance);
    rate = 1/2 is dX = -X/2 dt + dB, the clock of Guo et al. (2404.14743).
    """

    rate: float = 1.0
    default_T = 10.0

    def __post_init__(self):
        if not 0 < self.rate < np.inf:
            raise ValueError(f"rate must be positive and finite, got {self.rate!r}")

    def alpha(self, t):
        """Signal coefficient in (0, 1]; number or array in, same out."""
        return np.exp(-self.rate * _checked_time(t))

    def sigma(self, t):
        """Noise standard deviation in [0, 1); number or array in, same out."""
        return np.sqrt(-np.expm1(-2 * self.rate * _checked_time(t)))

    def drift(self, t):
        """f(t) = d log alpha / dt in dX = f X dt + g dB."""
        return -self.rate + 0 * _checked_time(t)

    def diffusion(self, t):
        """g(t) in dX = f X dt + g dB."""
        return np.sqrt(2 * self.rate) + 0 * _checked_time(t)

    def time(self, angle):
        """The inverse of `angle`: t with atan2(sigma, alpha) = angle, for angles in [0, pi / 2)."""
        return _minus_log_cos(angle) / self.rate


@dataclass(frozen=True)
class VP(Process):
    """Variance preserving with a linear rate: dX = -beta/2 X dt + sqrt(beta) dB, beta(t) = beta_min + t (beta_max - beta_min).

    The continuous form of the DDPM schedule (Song et al. 2021, eq. 11 and appendix C); t in [0, 1].
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    default_T = 1.0

    def __post_init__(self):
        if not 0 < self.beta_min <= self.beta_max < np.inf:
            raise ValueError(f"VP needs 0 < beta_min <= beta_max, got {self.beta_min!r}, {self.beta_max!r}")

    def _integral(self, t):
        t = _checked_time(t)
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2

    def alpha(self, t):
        """Signal coefficient in (0, 1]; number or array in, same out."""
        return np.exp(-self._integral(t) / 2)

    def sigma(self, t):
        """Noise standard deviation in [0, 1); number or array in, same out."""
        return np.sqrt(-np.expm1(-self._integral(t)))

    def drift(self, t):
        """f(t) = d log alpha / dt in dX = f X dt + g dB."""
        return -(self.beta_min + (self.beta_max - self.beta_min) * _checked_time(t)) / 2

    def diffusion(self, t):
        """g(t) in dX = f X dt + g dB."""
        return np.sqrt(-2 * self.drift(t))

    def time(self, angle):
        """The inverse of `angle`: t with atan2(sigma, alpha) = angle, for angles in [0, pi / 2)."""
        integral = 2 * _minus_log_cos(angle)
        return 2 * integral / (self.beta_min + np.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * integral))


@dataclass(frozen=True)
class VE(Process):
    """Variance exploding in EDM's clock: alpha = 1, sigma = t, dX = sqrt(2 t) dB (Karras et al. 2022, table 1)."""

    default_T = 80.0

    def alpha(self, t):
        """Signal coefficient, 1 at every time; number or array in, same out."""
        return 1.0 + 0 * _checked_time(t)

    def sigma(self, t):
        """Noise standard deviation, t itself; number or array in, same out."""
        return 1.0 * _checked_time(t)

    def drift(self, t):
        """f(t) = d log alpha / dt in dX = f X dt + g dB: zero."""
        return 0.0 * _checked_time(t)

    def diffusion(self, t):
        """g(t) in dX = f X dt + g dB."""
        return np.sqrt(2 * _checked_time(t))

    def time(self, angle):
        """The inverse of `angle`: t with atan2(sigma, alpha) = angle, for angles in [0, pi / 2)."""
        return np.tan(angle)


@dataclass(frozen=True)
class Cosine(Process):
    """Variance preserving with a cosine signal: alpha(t) = cos(u(t)) / cos(u(0)), u(t) = (pi / 2) (t + offset) / (1 + offset).

    The schedule of Nichol & Dhariwal (2021), in substance, with t in [0, 1], and of the experiments of Guo et al. (2404.14743).
    alpha reaches 0 at t = 1, where no step can start. So `default_T` lies 1.6e-4 before it, where the 200-step DDPM grid of those
    experiments starts, with alpha = 2.5e-4. `times` knows that grid as spacing="ddpm".
    """

    offset: float = 0.008

    def __post_init__(self):
        if not 0 < self.offset < np.inf:
            raise ValueError(f"offset must be positive and finite, got {self.offset!r}")

    @property
    def default_T(self):
        """The start of the 200-step DDPM grid."""
        return self._ddpm_start(200)

    def times(self, steps, T=None, t_min=0.0, spacing="uniform"):
        """A decreasing time grid as in `Process.times`, or, with spacing="ddpm", the one that DDPM code walks.

        That grid is 1, 1 - 1 / steps, ..., 1 / steps, 0 with its first time moved to where alpha^2 is 1e-3 of its value at the second:
        the code clips the last noise rate at 0.999. It has its own ends: T and t_min must be left alone.
        """
        if spacing != "ddpm":
            return super().times(steps, T, t_min, spacing)
        if T is not None or t_min != 0:
            raise ValueError(f'spacing="ddpm" has its own ends: leave out T and t_min, got T={T!r}, t_min={t_min!r}')
        grid = super().times(steps, 1.0)
        grid[0] = self._ddpm_start(len(grid) - 1)
        return grid

    def alpha(self, t):
        """Signal coefficient in [0, 1], 0 at t = 1 exactly; number or array in, same out."""
        return np.sin(self._left(t)) / np.cos(self._first)

    def sigma(self, t):
        """Noise standard deviation in [0, 1]; number or array in, same out."""
        rise = np.pi / 2 / (1 + self.offset) * self._checked_time(t)  # u(t) - u(0), where 1 - alpha^2 has no digits near 0
        return np.sqrt(np.sin(rise) * np.sin(rise + 2 * self._first)) / np.cos(self._first)

    def drift(self, t):
        """f(t) = d log alpha / dt in dX = f X dt + g dB: minus infinity at t = 1."""
        with np.errstate(divide="ignore"):
            return -np.pi / 2 / (1 + self.offset) / np.tan(self._left(t))

    def diffusion(self, t):
        """g(t) in dX = f X dt + g dB."""
        return np.sqrt(-2 * self.drift(t))

    def time(self, angle):
        """The inverse of `angle`: t with atan2(sigma, alpha) = angle, for angles in [0, pi / 2]."""
        first, angle = self._first, np.asarray(angle, dtype=float)
        u = np.arctan2(np.hypot(np.sin(first), np.cos(first) * np.sin(angle)), np.cos(first) * np.cos(angle))
        # Near 0 the difference u - u(0) has lost its digits, but not its sine.
        sine = (np.cos(first) * np.sin(angle)) ** 2 / np.sin(u + first)
        rise = np.where(angle < np.pi / 4, np.arcsin(np.clip(sine, 0, 1)), u - first)
        return np.minimum(rise * (1 + self.offset) / (np.pi / 2), 1.0)[()]

    @property
    def _first(self):
        return np.pi / 2 * self.offset / (1 + self.offset)

    def _left(self, t):
        return np.pi / 2 / (1 + self.offset) * (1 - self._checked_time(t))

    def _ddpm_start(self, steps):
        return float(self.time(np.arccos(np.sqrt(1e-3) * self.alpha(1 - 1 / steps))))

    def _checked_time(self, t):
        t = _checked_time(t)
        if not np.all(t <= 1):
            raise ValueError(f"t must be in [0, 1] for the cosine schedule, got {t!r}")
        return t


def _minus_log_cos(angle):
    # cos(angle) rounds to 1 near 0, where log1p keeps the digits; near pi / 2 it is the other way round.
    angle = np.asarray(angle, dtype=float)
    with np.errstate(divide="ignore"):
        value = np.where(angle < np.pi / 4, -0.5 * np.log1p(-np.sin(angle) ** 2), -np.log(np.cos(angle)))
    return value[()]


def denoiser(score, x, alpha, sigma):
    """E[x_0 | x_t = x] = (x + sigma^2 score) / alpha (Tweedie). All arrays (..., d); alpha > 0; NumPy or torch."""
    return (x + sigma**2 * score) / alpha


def noise(score, sigma):
    """E[eps | x_t = x] = -sigma score, the "eps-prediction". Shape of `score`; NumPy or torch."""
    return -sigma * score


def velocity(score, x, alpha, sigma):
    """v = E[-sigma x_0 + alpha eps | x_t = x] = -(sigma / alpha) (x + (alpha^2 + sigma^2) score), the "v-prediction".

    When alpha = cos(theta), sigma = sin(theta), the probability-flow ODE is dx/dtheta = v. Arrays (..., d); alpha > 0.
    """
    return -(sigma / alpha) * (x + (alpha**2 + sigma**2) * score)


def score_from_velocity(v, x, alpha, sigma):
    """The inverse of `velocity`: score = -(x + (alpha / sigma) v) / (alpha^2 + sigma^2). Arrays (..., d); sigma > 0."""
    return -(x + (alpha / sigma) * v) / (alpha**2 + sigma**2)
