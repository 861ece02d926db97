"""Laws that stay in their family when noise is added, so that every score along the way is exact.

A Gaussian mixture X ~ sum_k weights_k N(means_k, covs_k) noised to alpha X + sigma eps is again a Gaussian mixture, with
means alpha means_k and covariances alpha^2 covs_k + sigma^2 I: the eigenvectors never change, so covariances are
decomposed once per mixture, whatever the number of noise levels. Densities are only ever computed as logarithms.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import kernels


@dataclass(frozen=True, eq=False)
class Covariances:
    """K covariances as eigenvectors and eigenvalues: covs_k = rotation_k diag(variances_k) rotation_k^T.

    rotation is None (diagonal), (d, d) (eigenvectors shared by all components) or (K, d, d);
    variances is (K, d), or (K, 1) for isotropic components. float64.
    """

    variances: np.ndarray
    rotation: np.ndarray | None = None

    @classmethod
    def of(cls, covs, K, d):
        """Decompose `covs`, given in any of the shapes that `GaussianMixture` takes."""
        covs = _floats("covs", covs)
        if covs.ndim == 3:
            _expect(covs.shape == (K, d, d), "covs", covs, f"a covariance a component is {(K, d, d)}")
            if d == 1:
                return cls(_positive(covs[:, 0]))
            return cls(*_decompose(covs))
        if covs.shape == (d, d) and d > 1 and (K != d or np.array_equal(covs, covs.T)):
            variances, rotation = _decompose(covs)
            return cls(np.tile(variances, (K, 1)), rotation)
        if covs.ndim == 0:
            return cls(np.full((K, 1), _positive(covs)))
        if covs.ndim == 1:
            _expect(
                not (K == d > 1 and covs.shape == (d,)), "covs", covs,
                f"with K = d = {d} a vector could mean a variance a component, written covs[:, None], "
                "or a variance a dimension, written covs[None]",
            )
            if covs.shape == (K,):
                return cls(_positive(covs)[:, None])
            if covs.shape == (d,):
                return cls(np.tile(_positive(covs), (K, 1)))
        if covs.shape in ((K, d), (K, 1)):
            return cls(_positive(covs))
        if covs.shape == (1, d):
            return cls(np.tile(_positive(covs), (K, 1)))
        raise ValueError(
            f"covs has shape {covs.shape}; with K = {K} components in d = {d} dimensions it may be a number, "
            f"{(d,)}, {(d, d)}, {(K,)}, {(K, 1)}, {(K, d)} or {(K, d, d)}"
        )

    def noised(self, alpha, sigma):
        """Covariances of alpha X + sigma eps: same eigenvectors, eigenvalues alpha^2 v + sigma^2."""
        return Covariances(alpha**2 * self.variances + sigma**2, self.rotation)

    def of_components(self, rows):
        """The covariances of some components: an index array or mask."""
        per_component = self.rotation is not None and self.rotation.ndim == 3
        return Covariances(self.variances[rows], self.rotation[rows] if per_component else self.rotation)

    def transform(self, rows, z):
        """rotation_k diag(variances_k^p) z for p = 1/2: standard normal draws z (n, d) become draws of component rows[i]."""
        z = np.sqrt(self.variances[rows]) * z  # (n, d)
        if self.rotation is None:
            return z
        if self.rotation.ndim == 2:
            return z @ self.rotation.T
        for k in np.unique(rows):
            z[rows == k] = z[rows == k] @ self.rotation[k].T
        return z

    def matrices(self, d):
        """The covariances as matrices (K, d, d)."""
        variances = np.broadcast_to(self.variances, (len(self.variances), d))
        Q = np.eye(d) if self.rotation is None else self.rotation
        return (Q * variances[:, None]) @ np.swapaxes(Q, -1, -2)


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """sum_k weights_k N(means_k, covs_k), with a class label on every component.

    Parameters
    ----------
    means : (K, d) float32 or float64.
    weights : (K,), >= 0, summing to one; zeros are allowed. Default: equal.
    covs : variances, not standard deviations: a number (isotropic, shared), (d,) or (1, d) (diagonal, shared), (d, d) (full,
        shared), (K,) or (K, 1) (isotropic), (K, d) (diagonal) or (K, d, d) (full). When K = d > 1, a symmetric (d, d) array is a
        shared full covariance, any other is (K, d), and a vector is refused because it could mean two things.
    labels : (K,) integers or strings, the class of each component. Default: every component is its own class, 0 .. K - 1.

    All methods take points x (..., d), float32 or float64, with at least one leading axis; they compute and answer in x's precision. Points
    that hold NaN or infinity, are integers, or have another last axis raise ValueError or TypeError; so does a label that no
    component has.
    """

    means: np.ndarray
    weights: np.ndarray = None
    covs: Covariances = 1.0
    labels: np.ndarray = None

    def __post_init__(self):
        given = np.asarray(self.means)
        means = _floats("means", self.means)
        _expect(means.ndim == 2 and means.size > 0, "means", means, "means must be (K, d): for one component in 1-D write [[0.0]]")
        K, d = means.shape
        weights = np.full(K, 1 / K) if self.weights is None else _floats("weights", self.weights)
        _expect(weights.shape == (K,), "weights", weights, f"one weight for each of the {K} components")
        if np.any(weights < 0) or abs(weights.sum() - 1) > 1e-6:
            raise ValueError(f"weights must be >= 0 and sum to one, got {weights!r} with sum {weights.sum()!r}: divide them by their sum")
        covs = self.covs if isinstance(self.covs, Covariances) else Covariances.of(self.covs, K, d)
        labels = np.arange(K) if self.labels is None else np.asarray(self.labels)
        _expect(labels.shape == (K,) and labels.dtype.kind in "iuU", "labels", labels, f"an integer or string for each of the {K} components")
        dtype = given.dtype if given.dtype == np.float32 else np.dtype(float)
        for name, value in dict(means=means, weights=weights, covs=covs, labels=labels, dtype=dtype).items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_data(cls, x, labels=None, bandwidth=0.1):
        """A kernel density estimate: one isotropic component of standard deviation `bandwidth` at each data point.

        x : (n, d) float; labels : (n,) or None (one class, 0); bandwidth : > 0, in the units of x.
        Its class-conditional and guided scores are exact, so real data can be sampled without training.
        """
        if not bandwidth > 0:
            raise ValueError(f"bandwidth must be positive, got {bandwidth!r}")
        x = _points(x)
        return cls(x, covs=float(bandwidth) ** 2, labels=np.zeros(len(x), int) if labels is None else labels)

    @cached_property
    def _components(self):
        return _Components.of(self, np.flatnonzero(self.weights > 0))

    @property
    def K(self):
        """Number of components."""
        return self.means.shape[0]

    @property
    def d(self):
        """Number of dimensions."""
        return self.means.shape[1]

    @property
    def classes(self):
        """The labels in use, sorted."""
        return np.unique(self.labels)

    def prior(self, label):
        """p(label): the total weight of its components, a float in [0, 1]."""
        return float(self.weights[self._members(label)].sum())

    def given(self, label):
        """The class-conditional law p(x | label), again a GaussianMixture. Raises ValueError if p(label) = 0."""
        rows = np.flatnonzero(self._members(label))
        prior = self.weights[rows].sum()
        if prior == 0:
            raise ValueError(f"label {label!r} has probability zero: there is no law of x given it")
        return self._with(self.means[rows], self.weights[rows] / prior, self.covs.of_components(rows), self.labels[rows])

    def noised(self, alpha, sigma):
        """The law of alpha X + sigma eps, eps ~ N(0, I): again a GaussianMixture.

        Raises ValueError if alpha or sigma is negative or not finite, or both are zero.
        """
        if not (0 <= alpha < np.inf and 0 <= sigma < np.inf) or alpha == sigma == 0:
            raise ValueError(f"noised needs finite alpha >= 0 and sigma >= 0, not both zero, got alpha={alpha!r}, sigma={sigma!r}")
        alpha, sigma = float(alpha), float(sigma)
        p = object.__new__(GaussianMixture)  # what is checked once stays right: no second look at every noise level
        fields = dict(means=alpha * self.means, weights=self.weights, covs=self.covs.noised(alpha, sigma), labels=self.labels, dtype=self.dtype)
        for name, value in fields.items():
            object.__setattr__(p, name, value)
        return p

    def mean(self):
        """E[X], (d,)."""
        return self.weights @ self.means

    def cov(self):
        """Cov[X], (d, d)."""
        centred = self.means - self.mean()  # (K, d)
        within = np.einsum("k,kij->ij", self.weights, self.covs.matrices(self.d))
        return within + (self.weights[:, None] * centred).T @ centred

    def sample(self, n, rng):
        """n independent draws: x (n, d) in the precision of `means`, and their labels (n,). rng: numpy.random.Generator."""
        if int(n) != n or n < 0:
            raise ValueError(f"n must be an integer >= 0, got {n!r}")
        if not isinstance(rng, np.random.Generator):
            raise TypeError(f"rng must be a numpy.random.Generator, as numpy.random.default_rng(seed) makes, got {rng!r}")
        rows = rng.choice(self.K, size=int(n), p=self.weights / self.weights.sum())  # (n,)
        x = self.means[rows] + self.covs.transform(rows, rng.standard_normal((int(n), self.d)))  # (n, d)
        return x.astype(self.dtype, copy=False), self.labels[rows]

    def log_prob(self, x):
        """log p(x), (...)."""
        x, shape = self._flat(x)
        return self._components.log_prob(x).reshape(shape[:-1])

    def score(self, x):
        """grad log p(x), (..., d)."""
        x, shape = self._flat(x)
        return self._components.score(x).reshape(shape)

    def log_posterior(self, x, label):
        """log p(label | x) <= 0, (...), with full relative accuracy both near 0 and far below it."""
        x, shape = self._flat(x)
        inside, outside = self._split(label)
        if len(inside) == 0 or len(outside) == 0:
            self.log_prob(x)  # refuses points that hold NaN, as everywhere
            return np.full(shape[:-1], -np.inf if len(inside) == 0 else 0.0, x.dtype)
        log_odds = _Components.of(self, inside).log_prob(x) - _Components.of(self, outside).log_prob(x)  # (n,)
        return -np.logaddexp(0, -log_odds).reshape(shape[:-1])

    def posterior(self, x, label):
        """p(label | x) in [0, 1], (...)."""
        return np.exp(self.log_posterior(x, label))

    def guided_score(self, x, label, w):
        """(1 + w) grad log p(x | label) - w grad log p(x), from one table of exponentials.

        Equal to s_in + w (1 - p(label | x)) (s_in - s_out), with the scores of the components inside and outside the
        class, and computed as one weighted mean over components in which the posterior is never subtracted from one.

        w : a number; or (W,), a sweep: x (n, d) gives (W, n, d), x (W, n, d) uses w[i] for x[i]; or an array that
        broadcasts to (..., 1), a strength for each point. Raises ValueError otherwise.
        """
        x, shape = self._flat(x)
        inside, outside = self._split(label)
        if len(inside) == 0:
            raise ValueError(f"label {label!r} has probability zero: there is no score given it")
        w, sweep = _strengths(w, shape)
        out_shape = (len(w), *shape) if sweep else shape
        if len(outside) == 0:
            return np.broadcast_to(self.score(x.reshape(shape)), out_shape).copy()
        w = w.astype(x.dtype) if isinstance(w, np.ndarray) else w
        both = _Components.of(self, np.concatenate([inside, outside]))
        return both.guided(x, len(inside), w, sweep).reshape(out_shape)

    def score_divergence(self, x):
        """div grad log p(x) = the trace of the Hessian of log p, (...)."""
        x, shape = self._flat(x)
        return self._components.second_derivatives(x, trace=True).reshape(shape[:-1])

    def hessian(self, x):
        """The Hessian of log p(x), (..., d, d)."""
        x, shape = self._flat(x)
        return self._components.second_derivatives(x, trace=False).reshape(*shape, self.d)

    def _with(self, means, weights, covs, labels):
        return GaussianMixture(means.astype(self.dtype, copy=False) if self.dtype == np.float32 else means, weights, covs, labels)

    def _members(self, label):
        members = self.labels == label if np.ndim(label) == 0 else np.zeros(self.K, bool)
        if not np.any(members):
            raise ValueError(f"label {label!r} is unknown; the labels are {self.classes.tolist()}")
        return members

    def _split(self, label):
        # The components of positive weight inside and outside a class.
        members, alive = self._members(label), self.weights > 0
        return np.flatnonzero(members & alive), np.flatnonzero(~members & alive)

    def _flat(self, x):
        x = _points(x)
        if x.shape[-1] != self.d:
            raise ValueError(f"x must end in an axis of length d = {self.d}, got shape {x.shape}")
        return x.reshape(-1, self.d), x.shape


@dataclass(frozen=True, eq=False)
class _Components:
    """Some components of a mixture in a given order, and sums over them (see `kernels`)."""

    means: np.ndarray
    log_weights: np.ndarray
    covs: Covariances
    tables: dict

    @classmethod
    def of(cls, p, rows):
        return cls(p.means[rows].astype(float, copy=False), np.log(p.weights[rows]), p.covs.of_components(rows), {})

    @property
    def streams(self):
        return self.covs.rotation is not None and self.covs.rotation.ndim == 3 and self.means.shape[1] > kernels.SMALL

    def table(self, dtype):
        if dtype not in self.tables:
            self.tables[dtype] = kernels.tables(self.means, self.log_weights, self.covs, dtype)
        return self.tables[dtype]

    def streamed(self, x, rows=slice(None), score=True):
        if not np.all(np.isfinite(x)):
            raise ValueError("x holds NaN or infinity: check the step that made it")
        return kernels.streamed(x, self.means[rows], self.log_weights[rows], self.covs.of_components(rows), score)

    def log_prob(self, x):
        if self.streams:
            return self.streamed(x, score=False)[0]
        table, out = self.table(x.dtype), np.empty(len(x), x.dtype)
        for part, work in kernels.chunks(table, len(x)):
            bound = kernels.log_table(table, x[part], work)
            shift = kernels.exponentials(table, work.logs, bound)  # (C,)
            out[part] = np.log(work.logs.sum(0)) + shift
        return out

    def score(self, x):
        if self.streams:
            return self.streamed(x)[1]
        table, out = self.table(x.dtype), np.empty_like(x)
        for part, work in kernels.chunks(table, len(x)):
            bound = kernels.log_table(table, x[part], work)
            kernels.exponentials(table, work.logs, bound)
            kernels.write_score(table, work, out[part])
        return out

    def guided(self, x, members, w, sweep):
        """The guided score of the first `members` components against all: (n, d), or (W, n, d) for a sweep."""
        out = np.empty((len(w), *x.shape) if sweep else x.shape, x.dtype)
        inside, outside = slice(0, members), slice(members, None)
        if self.streams:
            (log_in, score_in), (log_out, score_out) = (self.streamed(x, rows) for rows in (inside, outside))
            pull = expit(log_out - log_in)[:, None] * (score_in - score_out)  # (n, d)
            if not sweep:
                return score_in + (w[:, None] if isinstance(w, np.ndarray) else w) * pull
            for strength, slab in zip(w, out):
                np.add(score_in, strength * pull, out=slab)
            return out
        table = self.table(x.dtype)
        strengths = np.stack([np.ones_like(w), w], 1) if sweep else None  # (W, 2)
        groups = np.zeros((2, len(self.means)), x.dtype)  # (2, K)
        groups[0, inside] = groups[1, outside] = 1
        # One strength, few dimensions: only the ratio of the two weights in `_weights` is needed, since the score divides
        # by the sum of what it averages.
        light = not isinstance(w, np.ndarray) and w >= 0 and table.dimension <= kernels.SMALL
        light_rows = np.stack([-w * groups[0], groups[0] + (1 + w) * groups[1]]).astype(x.dtype) if light else None
        for part, work in kernels.chunks(table, len(x)):
            bound = kernels.log_table(table, x[part], work)
            e_in, e_out = work.logs[inside], work.logs[outside]  # (K_in, C), (K_out, C)
            shift = kernels.exponentials(table, e_in, bound) - kernels.exponentials(table, e_out, bound)
            if light and isinstance(shift, float):
                weight, total = light_rows @ work.logs  # (C,), (C,): -w z_in and z_in + (1 + w) z_out
                weight /= total
                e_out *= weight
                kernels.write_score(table, work, out[part])
                continue
            z_in, z_out = groups @ work.logs  # (C,), (C,)
            if sweep:
                share = _outside_share(z_in, z_out, shift)  # (C,)
                both = np.empty((2, *x[part].shape), x.dtype)  # (2, C, d)
                kernels.write_score(table, work, both[0], inside, keep=True)
                # In many dimensions the line above has divided e_in by z_in already.
                e_in *= share / z_in if table.dimension <= kernels.SMALL else share
                e_out *= -share / z_out
                kernels.write_score(table, work, both[1], normalised=True)
                columns = slice(part.start * x.shape[1], part.stop * x.shape[1])
                np.matmul(strengths, both.reshape(2, -1), out=out.reshape(len(w), -1)[:, columns])
                continue
            into, outof = _weights(z_in, z_out, shift, w[part] if isinstance(w, np.ndarray) else w)  # (C,), (C,)
            e_in *= into
            e_out *= outof
            kernels.write_score(table, work, out[part], normalised=True)
        return out

    def second_derivatives(self, x, trace):
        """sum_k q_k ((s_k - s)(s_k - s)^T - P_k), or its trace, with q the posterior over components and s_k their scores.

        In float64 and centred at the score s = sum_k q_k s_k, since far away s s^T is many times larger than the answer.
        """
        if not np.all(np.isfinite(x)):
            raise ValueError("x holds NaN or infinity: check the step that made it")
        (n, d), K = x.shape, len(self.means)
        out = np.empty((n,) if trace else (n, d, d), x.dtype)
        size = max(1, 200_000 // (K * d))
        for start in range(0, n, size):
            part = slice(start, start + size)
            out[part] = self._second_derivatives(x[part].astype(float), trace)
        return out

    def _second_derivatives(self, x, trace):
        d, variances = x.shape[1], np.broadcast_to(self.covs.variances, self.means.shape)  # (K, d)
        logs, scores = np.empty((len(self.means), len(x))), np.empty((len(self.means), *x.shape))  # (K, C), (K, C, d)
        for k, (mean, v) in enumerate(zip(self.means, variances)):
            Q = self._axes(k)
            y = (x - mean) if Q is None else (x - mean) @ Q  # (C, d)
            logs[k] = self.log_weights[k] - (np.log(v).sum() + (y * y / v).sum(1)) / 2
            scores[k] = -y / v if Q is None else (-y / v) @ Q.T
        q = np.exp(logs - logs.max(0))  # (K, C)
        q /= q.sum(0)
        scores -= np.einsum("kn,knd->nd", q, scores)
        if trace:
            return np.einsum("kn,knd,knd->n", q, scores, scores) - q.T @ (1 / variances).sum(1)
        out = np.einsum("kn,kni,knj->nij", q, scores, scores)  # (C, d, d)
        for k, v in enumerate(variances):
            Q = self._axes(k)
            precision = np.diag(1 / v) if Q is None else (Q / v) @ Q.T  # (d, d)
            out -= q[k, :, None, None] * precision
        return out

    def _axes(self, k):
        rotation = self.covs.rotation
        return rotation if rotation is None or rotation.ndim == 2 else rotation[k]


def expit(z):
    """1 / (1 + exp(-z)) without overflow; any shape."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _outside_share(total_in, total_out, shift):
    # 1 - p(label | x) from the normalisers of the two groups, each relative to its own largest exponent.
    if isinstance(shift, float):
        return total_out / (total_in + total_out)
    return expit(np.log(total_out / total_in) - shift)


def _weights(z_in, z_out, shift, w):
    # (1 + w (1 - p(label | x))) / z_in and -w (1 - p(label | x)) / z_out: what the exponentials of the groups count for.
    if isinstance(shift, float):
        outof = -w / (z_in + z_out)
        return (1 + w) / z_in + outof, outof
    share = w * _outside_share(z_in, z_out, shift)  # (C,)
    return (1 + share) / z_in, -share / z_out


def _strengths(w, shape):
    """A checked w: (number, False), (one for each flattened point, False) or (the strengths of a sweep, True)."""
    w = np.asarray(w)
    if w.dtype.kind not in "iuf" or w.size == 0 or not np.all(np.isfinite(w)):
        raise ValueError(f"w must be a finite number, an array of them, or a function of t, got {w!r}")
    if w.ndim == 0:
        return float(w), False
    if w.ndim == 1 and len(shape) == 2:
        return w.astype(float), True
    if w.ndim == 1 and len(w) == shape[0]:
        w = w.reshape(-1, *[1] * (len(shape) - 1))
    if w.ndim < 2 or w.shape[-1] != 1:
        raise ValueError(f"w of shape {w.shape} does not fit x of shape {shape}: a sweep is (W,), one strength a point is (..., 1)")
    try:
        return np.broadcast_to(w, (*shape[:-1], 1)).reshape(-1).astype(float), False
    except ValueError:
        raise ValueError(f"w of shape {w.shape} does not broadcast to {(*shape[:-1], 1)}, a strength for each point of x") from None


def _floats(name, value):
    """`value` as float64; raises TypeError for an integer array and ValueError for NaN or infinity."""
    array = np.asarray(value)
    if isinstance(value, np.ndarray) and array.dtype.kind not in "f" or array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be floating point, got dtype {array.dtype}: use {name}.astype(float)")
    array = array.astype(float)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got {array!r}")
    return array


def _points(x):
    array = np.asarray(x)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"x must be float32 or float64, got dtype {array.dtype}: use x.astype(float)")
    if array.ndim < 2:
        raise ValueError(f"x must be (..., d) with at least one leading axis, got shape {array.shape}: for points on a line write x[:, None], for one point x[None]")
    return array


def _expect(condition, name, value, rule):
    if not condition:
        raise ValueError(f"{name} has shape {np.shape(value)}: {rule}")


def _positive(variances):
    if not np.all(variances > 0):
        raise ValueError(f"covs must be positive, got a smallest variance of {np.min(variances)!r}")
    return variances


def _decompose(covs):
    # Eigenvalues and eigenvectors of one (d, d) or K (K, d, d) covariances.
    transposed = np.swapaxes(covs, -1, -2)
    if not np.allclose(covs, transposed, rtol=1e-8, atol=1e-12 * np.abs(covs).max()):
        raise ValueError("covs must be symmetric matrices: use (covs + covs.T) / 2 if the difference is rounding")
    variances, rotation = np.linalg.eigh((covs + transposed) / 2)
    if not np.all(variances > 1e-14 * np.abs(variances).max()):
        raise ValueError(f"covs must be positive definite, got a smallest eigenvalue of {variances.min()!r}: add a small multiple of the identity")
    return variances, rotation
