"""`evolve`: means along the reverse SDE of any score field on a line; `improvement`: what guidance takes from the mean of 1 / p(c | x)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .fokker_planck import GAMMA, FokkerPlanck, _angle, _fluxes, _richardson, _tr_bdf2
from .process import OU

FIRST_STEPS = (40, 320)  # of the coarsest grid, from the widest to the narrowest components
LEVELS = 5  # refinements, of the mesh and of the steps, at most
EDGE = 1e-12  # the mass that may lie in the outermost cells
NOTHING = 1e-280
RIM = 1e-9  # the share of a mean that may lie in the outermost cells that count
MARGINS = (1.0, 6.0, 20.0, 60.0)  # beyond the components and nine standard deviations of the noise


def evolve(
    p, label, score, observe, T=None, process=OU(), t_min=0.0, *,
    initial="class", breaks=(), tolerance=1e-5, cells=None, steps=None,
):
    """The means E[observe(Y_t, t)] at all times along dY = (-f Y + g^2 score) dtau + g dB, for any score field on a line.

    Finite volumes (Scharfetter & Gummel) on meshes fitted to p and TR-BDF2 in time, refined until Richardson's extrapolation stays.

    Parameters
    ----------
    p : a mixture with d = 1; it sets the mesh and, with `label` and initial="class", the start. It need not be what `score` is of.
    score : score(x, t) -> (n, 1) for x (n, 1), smooth in x, at times t in [t_min, T]; e.g. `cfg`, `cfg.combine`, a wrong one.
    observe : observe(x, t) -> (n,) or (m, n) for x (n, 1), finite and smooth in x.
    T, process, t_min : as in `FlowMap`.  initial : "class", the noised class law at T, or "normal", pure noise.
    breaks : times in (t_min, T) where score or observe jumps in t: a step ends there.
    tolerance : > 0, on the change that the last refinement makes, relative to the largest mean of |observe| along the run.
    cells, steps : size of the coarsest mesh and number of its time steps (default: from the narrowest component); each refinement
        doubles both.

    Returns
    -------
    times (steps + 1,), decreasing from T to t_min, equally spaced in the square root of the clock -log cos(angle) between breaks (for
    `OU`: of t), an even number of steps each; and the means (steps + 1,) or (m, steps + 1) at these times. float64.

    Raises
    ------
    ValueError for bad arguments; RuntimeError if the means do not settle or the law leaves every mesh. Where a mean is carried by
    tails in which the law is below 1e-300 no mesh can know: for the mean of 1 / p(label | .) take `improvement`.
    """
    for name, f in (("score", score), ("observe", observe)):
        if not callable(f):
            raise ValueError(f"{name} must be a function of (x, t), got {f!r}")
    for name, number in (("cells", cells), ("steps", steps)):
        if number is not None and not (number == int(number) and number >= 8):
            raise ValueError(f"{name} must be an integer >= 8 or None, got {number!r}")
    law = FokkerPlanck(p, label, 0.0, T, process, t_min, initial=initial, cells=cells)
    breaks = np.asarray(breaks, float).ravel()  # (B,)
    T = process.default_T if T is None else T
    if not np.all((t_min < breaks) & (breaks < T)):
        raise ValueError(f"breaks must be times in (t_min, T) = ({t_min:g}, {T:g}), got {breaks!r}")
    plan = _Plan.of(law, process, T, t_min, process.angle(breaks), steps)
    times, means = plan.settled(law._start, plan.drift(score), plan.observed(observe), tolerance)
    return times, means if plan.rows else means[0]


class Improvement(NamedTuple):
    """The terms of  mean = start - loss."""

    mean: float  # E[1 / p(label | Y_0)]
    start: float  # E[1 / p_T(label | Y_T)]: 1 / p(label) from the noised class
    loss: float  # int E[w g^2 |grad l|^2 / p_t(label | Y_t)] dt


def improvement(p, label, w, T=None, process=OU(), t_min=0.0, *, initial="class", breaks=(), tolerance=1e-5):
    """The three terms of the exact improvement formula for the guided reverse SDE on a line, each computed on its own.

    E[1 / p(c | Y_0)] = E[1 / p_T(c | Y_T)] - int E[w g^2 |grad l_t|^2 / p_t(c | Y_t)] dt,  l_t = log p_t(c | .) (ours; that guidance lowers
    the mean: Li & Jiao 2505.01382, in substance). The mean is `FokkerPlanck.inverse_confidence`. The loss is an integral along the law
    weighted by 1 / p_t, which follows the score  grad log p_t + w grad l_t, killed at the rate w g^2 |grad l_t|^2: also where 1 / p
    has tails beyond any mesh. Other discretisations, but the same change of measure; where the tails allow it, an independent
    mean is `FokkerPlanck(...).expect(lambda x: -p.log_posterior(x[:, None], label), log=True)`.

    p : `GaussianMixture` with d = 1.  w : a number >= -1 or a function of t.  T, process, t_min, breaks : as in `FlowMap`.
    initial : "class", where start is 1 / p(label), or "normal".  tolerance : as in `evolve`.

    Returns (mean, start, loss), an `Improvement` of floats. Raises ValueError for bad arguments, and RuntimeError if a term does not
    settle or the two sides differ by more than 1e-3 of the start.
    """
    law = FokkerPlanck(p, label, w, T, process, t_min, initial=initial, breaks=breaks)
    legs = [leg for leg in law._run.legs if leg[0] < np.pi / 2]
    T, inside = process.default_T if T is None else T, p.given(label)
    plan = _Plan.of(law, process, T, t_min, [leg[0] for leg in legs[1:]])
    strength = w if callable(w) else lambda t: w

    def laws(x, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        whole = p.noised(alpha, sigma)
        base = whole.score(x)  # (n, 1)
        return whole, base, inside.noised(alpha, sigma).score(x) - base

    def score(x, t):
        _, base, pull = laws(x, t)
        return base + strength(t) * pull

    def rate(x, t):
        return strength(t) * laws(x, t)[2][:, 0] ** 2

    def first(edges):
        if initial == "class":
            return law._start(edges, whole=True) / p.prior(label)
        x = plan.radius(T) * 0.5 * (edges[1:] + edges[:-1])[:, None]  # (N, 1)
        return law._start(edges) * np.exp(-laws(x, T)[0].log_posterior(x, label))

    _, (left, lost) = plan.settled(first, plan.drift(score), None, tolerance, plan.killing(rate))
    result = Improvement(law.inverse_confidence(), float(left[0]), float(lost[-1]))
    if not abs(result.mean - result.start + result.loss) < 1e-3 * result.start:
        raise RuntimeError(f"the two sides of the formula do not agree: {result}; if w jumps, name the times in breaks")
    return result


@dataclass
class _Plan:
    """A run in y = x / radius and clock = -log cos(angle), where dY = (Y + 2 radius score) dclock + sqrt(2) dB."""

    law: FokkerPlanck
    process: object
    ends: tuple  # (T, t_min)
    clocks: list  # (start, stop) of every leg, from noise to data
    first: float  # steps of the coarsest grid
    rows: bool = True  # observe returns (m, n)

    @classmethod
    def of(cls, law, process, T, t_min, cuts, first=None):
        angles = [process.angle(T), *np.sort(cuts)[::-1], process.angle(t_min)]
        clocks = [-np.log(np.cos(float(a))) for a in angles]
        if first is None:
            # The last stage that matters is where the noise is as wide as the narrowest component.
            narrowest = np.sqrt(process.alpha(t_min) ** 2 * law._line.parts.variances.min() + process.sigma(t_min) ** 2)
            first = np.clip(16 * np.hypot(process.alpha(t_min), process.sigma(t_min)) / narrowest, *FIRST_STEPS)
        return cls(law, process, (T, t_min), list(zip(clocks[:-1], clocks[1:])), first)

    def time(self, clock):
        return float(np.clip(self.process.time(float(_angle(clock))), self.ends[1], self.ends[0]))

    def radius(self, t):
        return float(np.hypot(self.process.alpha(t), self.process.sigma(t)))

    def drift(self, score):
        def drift(y, clock):
            t = self.time(clock)
            x = self.radius(t) * y[:, None]  # (n, 1)
            return y + 2 * self.radius(t) * _finite("score", score(x, t), x.shape)[:, 0]

        return drift

    def observed(self, observe):
        def observed(y, clock):
            t = self.time(clock)
            values = np.asarray(observe(self.radius(t) * y[:, None], t), float)
            if values.ndim not in (1, 2) or values.shape[-1] != len(y) or np.any(np.isnan(values)):
                what = f"shape {values.shape}" + " with NaN" * bool(np.any(np.isnan(values)))
                raise ValueError(f"observe must return (n,) or (m, n) without NaN for x (n, 1), n = {len(y)}, got {what} on a mesh "
                                 f"of {y[0]:.3g} to {y[-1]:.3g}, in units of the noised data (for the mean of 1 / p take improvement)")
            self.rows = values.ndim == 2
            return np.atleast_2d(values)

        return observed

    def killing(self, rate):
        def killing(y, clock):
            t = self.time(clock)
            return 2 * self.radius(t) ** 2 * rate(self.radius(t) * y[:, None], t)

        return killing

    def settled(self, start, drift, observe, tolerance, kill=None):
        """Times (steps + 1,) and means (m, steps + 1) of the coarsest grid."""
        if not 0 < tolerance < np.inf:
            raise ValueError(f"tolerance must be > 0 and finite, got {tolerance!r}")
        for margin in MARGINS:
            meshes, levels = self.law._mesh(LEVELS, margin), []
            for i, edges in enumerate(meshes):
                times, means, sizes, safe = self.run(edges, 2**i, start, drift, observe, kill)
                if not safe:
                    break
                levels.append(means[:, :: 2**i])
                if i == 0:
                    coarse = times
                if i >= 2:
                    best, before = _richardson(levels[-3:]), _richardson(levels[-3:-1])
                    change = np.max(np.abs(best - before) / np.maximum(sizes, 1e-300)[:, None])
                    if change <= tolerance:
                        return coarse, best
        if not safe:
            raise RuntimeError(f"the law, or what is observed of it, reaches beyond every mesh, the last of {edges[0]:.3g} to {edges[-1]:.3g}")
        raise RuntimeError(f"the means still change by {change:.1e} of their size: raise tolerance, or name jumps of score in breaks")

    def run(self, edges, fineness, start, drift, observe, kill):
        """Times, means (m, steps + 1), the largest mean of the size of each, and whether the mesh holds the law."""
        width, centre, face = np.diff(edges), 0.5 * (edges[1:] + edges[:-1]), edges[1:-1]  # (N,), (N,), (N - 1,)
        gap = np.diff(centre)
        mass, times, rows, sizes, lost = start(edges), [], [], [], 0.0
        span = np.sqrt(self.clocks[0][0]) - np.sqrt(self.clocks[-1][1])

        def generator(clock):
            left, middle, right = _fluxes(centre, width, gap * drift(face, clock))
            rates = 0.0 if kill is None else kill(centre, clock)
            return (left, middle - rates, right), rates

        for leg, (begin, end) in enumerate(self.clocks):
            share = (np.sqrt(begin) - np.sqrt(end)) / span
            count = fineness * max(8, 2 * int(np.ceil(share * self.first / 2)))
            roots = np.linspace(np.sqrt(begin), np.sqrt(end), count + 1)
            # At a break, functions of t take their value inside the leg.
            inner = np.clip(roots**2, end + 1e-9 * (begin - end) * (leg + 1 < len(self.clocks)), begin - 1e-9 * (begin - end) * (leg > 0))
            now, rates = generator(inner[0])
            for k in range(len(roots)):
                if k > 0:
                    step = inner[k - 1] - inner[k]
                    (middle, _), (after, rates_after) = generator(inner[k - 1] - GAMMA * step), generator(inner[k])
                    before, speed = mass, 2 * roots[k - 1] * (rates @ mass) if kill else 0.0
                    mass, now = _tr_bdf2(now, middle, after, step, before), after
                    rates = rates_after
                    if kill:
                        lost += 0.5 * (roots[k - 1] - roots[k]) * (speed + 2 * roots[k] * (rates @ mass))
                if k > 0 or leg == 0:
                    terms = np.stack([mass]) if kill else _terms(observe(centre, inner[k]), mass)  # (m, N)
                    if not _contained(mass, terms):
                        return None, None, None, False
                    times.append(self.time(roots[k] ** 2))
                    rows.append(np.append(terms.sum(1), lost) if kill else terms.sum(1))
                    sizes.append(np.append(np.abs(terms).sum(1), 0.0 if not kill else mass.sum()) if kill else np.abs(terms).sum(1))
        times[0], times[-1] = self.ends
        return np.array(times), np.transpose(rows), np.max(sizes, axis=0), True


def _terms(values, mass):
    # Where the law is not to be told from nothing, not even an infinite value counts; `_contained` looks at the rim of what counts.
    terms = np.where(np.abs(mass) > NOTHING, values, 0.0) * mass  # (m, N)
    if not np.all(np.isfinite(terms)):
        raise ValueError("observe returned infinity where the law has mass (for the mean of 1 / p(label | .) take improvement)")
    return terms


def _contained(mass, terms):
    if not max(abs(mass[0]), abs(mass[-1])) <= EDGE * np.abs(mass).sum():
        return False
    held = np.flatnonzero(np.abs(mass) > NOTHING)[[0, -1]]
    return bool(np.all(np.abs(terms[:, held]) <= RIM * np.abs(terms).sum(1, keepdims=True)))


def _finite(name, values, shape):
    values = np.asarray(values, float)
    if values.shape != shape or not np.all(np.isfinite(values)):
        raise ValueError(f"{name} must return finite numbers of the shape of x, {shape}, got shape {values.shape}")
    return values
