"""Integrals on a line or in the plane: tensor Gauss-Legendre panels, halved where the integrand is not yet resolved.

SciPy's `cubature` cuts one region at a time; here all that are too coarse are halved together, each along its roughest axis.
"""
import numpy as np

NODES = {1: 16, 2: 12}  # a panel and axis
NEAR = 9.5  # standard deviations within which a component has panels of its own size
REACH = 37.0  # standard deviations: exp(-REACH^2 / 2) and its inverse are still numbers
MOST = 20_000  # panels
GOAL = 1e-10  # error of an integral, relative to the integral of the integrand's size
LIMIT = 1e-8  # an answer less certain than this is refused


def panels(means, narrow, wide):
    """Boxes low, high (m, d) that tile where Gaussians at means (K, d) with smallest and largest deviations (K,) do not underflow.

    Within NEAR times wide[k] of means[k], none is wider than four times narrow[k], so that no feature is stepped over; farther
    away they grow with the distance. Raises RuntimeError if that takes more than MOST boxes.
    """
    _check(means)
    reach, done = REACH * wide[:, None], []
    low, high = (means - reach).min(0)[None], (means + reach).max(0)[None]
    while len(low):
        gaps = np.sqrt((np.maximum(np.maximum(low[:, None] - means, means - high[:, None]), 0) ** 2).sum(2))  # (m, K)
        split = (high - low).max(1) > (4 * narrow + 0.5 * np.maximum(gaps - NEAR * wide, 0)).min(1)
        done.append((low[~split], high[~split]))
        low, high = _halved(low[split], high[split], np.argmax(high - low, axis=1)[split])
        if len(low) + sum(len(side) for side, _ in done) > MOST:
            raise RuntimeError(f"the components are too narrow for their distances: more than {MOST} panels are needed; use sample()")
    return tuple(np.concatenate(side) for side in zip(*done))


def integrate(f, low, high, tails=True):
    """The integral (c,) of f: (n, d) -> (n, c) over disjoint boxes low, high (m, d), and the boxes that resolve it.

    Raises RuntimeError if f is not finite, if the error may exceed LIMIT times the integral of |f|, or if `tails` and the boxes at
    the border still hold as much: then f does not die out.
    """
    _check(low)
    d, n, bounds, done = low.shape[1], NODES[low.shape[1]], (low.min(0), high.max(0)), None
    nodes, weights = np.polynomial.legendre.leggauss(n)
    highest = (weights[:, None] * np.polynomial.legendre.legvander(nodes, n - 1) * (np.arange(n) + 0.5))[:, -2:]  # (n, 2)
    grid, weight = lattice([nodes] * d), np.prod(lattice([weights] * d), axis=1)  # (N, d), (N,)
    while True:
        half = 0.5 * (high - low)
        values = f((low[:, None] + half[:, None] * (1 + grid)).reshape(-1, d)).reshape(len(low), len(grid), -1)  # (m, N, c)
        if not np.all(np.isfinite(values)):
            raise RuntimeError("f is not finite at a point of the support, or grows too fast for its mean to be known")
        volume = np.prod(half, axis=1)[:, None]  # (m, 1)
        # The last two Legendre coefficients along each axis. The rule is exact to twice the degree: its error is like tail^2 / head.
        lines = [values.reshape(len(low), n**a, n, n ** (d - 1 - a), -1) for a in range(d)]
        tail = np.stack([np.abs(np.einsum("maibc,it->mabct", line, highest)).max((1, 2, 4)) for line in lines], axis=1)  # (m, d, c)
        errors = 2 ** (d - 1) * volume[..., None] * tail * np.minimum(1, 1e3 * tail / np.maximum(np.abs(values).max(1), 1e-300)[:, None])
        totals, sizes = (volume * np.einsum("mnc,n->mc", part, weight) for part in (values, np.abs(values)))  # (m, c), (m, c)
        fresh = (low, high, totals, sizes, errors)
        done = fresh if done is None else tuple(np.concatenate(pair) for pair in zip(done, fresh))
        low, high, totals, sizes, errors = done
        scale = np.maximum(sizes.sum(0), 1e-300)  # (c,)
        worst = (errors / scale).max(2)  # (m, d)
        bad, error = worst.max(1) > GOAL / len(low), (errors.max(1).sum(0) / scale).max()
        if not bad.any() or error <= GOAL or len(bad) + bad.sum() > MOST:
            break
        done = tuple(part[~bad] for part in done)
        low, high = _halved(low[bad], high[bad], worst[bad].argmax(1))
    outer = np.any((low == bounds[0]) | (high == bounds[1]), axis=1)
    if tails and np.any(sizes[outer].sum(0) > LIMIT * scale):
        raise RuntimeError("f times the density does not die out in the tails: the mean may be infinite")
    if error > LIMIT:
        raise RuntimeError(f"this mean is only known to {error:.1e} of its size: f is too rough; average over sample() instead")
    return totals.sum(0), low, high


def lattice(axes):
    """All points (N, d) whose i-th coordinate is in axes[i]."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def _check(points):
    if points.shape[1] not in NODES:
        raise ValueError(f"a quadrature needs d <= 2, got d = {points.shape[1]}: average over draws of sample(n, rng) instead")


def _halved(low, high, axis):
    rows, middle, first, second = np.arange(len(low)), 0.5 * (low + high), high.copy(), low.copy()
    first[rows, axis] = second[rows, axis] = middle[rows, axis]
    return np.concatenate([low, second]), np.concatenate([first, high])
