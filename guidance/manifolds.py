"""Laws on a surface of few dimensions in many: a linear subspace, and the sphere, with exact scores at every noise level.

`Subspace` is assumption 1 of Guo et al. (2404.14743): X = A U with orthonormal columns A (D, d) and any latent mixture U.
Noise fills the space, yet the score splits: A times the score of the noised U along the span, and -x_off / h off it. So a
step costs two products with A and sums over d coordinates, never a D x D matrix. `Sphere` is the curved case, where x_0 given
x_t follows a von Mises-Fisher law.

Both answer what a mixture answers (`noised`, `score`, `sample`, `mean`, `cov`), and `tweedie` gives, for any of these laws
and a direction g, what guidance needs at a noise level: the score of x_t, g^T E[x_0 | x_t], and the gradient of that number,

    grad_x g^T E[x_0 | x_t = x] = (alpha / h) Cov(x_0 | x_t = x) g,    h = sigma^2,

the second-order form of Tweedie's formula. It is summed from conditional covariances rather than as (g + h Hessian g) / alpha,
whose two terms cancel off the span.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mixtures import GaussianMixture, _floats, _points

SERIES = 12  # terms of the Bessel ratio's expansion at large argument
FRACTION = 60  # levels of its continued fraction at small argument


def tweedie(law, alpha, sigma):
    """The moments of x_0 given x_t = alpha x_0 + sigma eps that guidance needs.

    law : `GaussianMixture`, `Subspace`, `Sphere`, or any law with a method `tweedie(alpha, sigma)`.

    Returns moments(x, g) -> (score, value, gradient), for float arrays x (..., D) and directions g that broadcast to x:
    grad log p_t(x) (..., D); g^T E[x_0 | x_t = x] (...); and its gradient in x, (..., D), or (D,) where that is the same for
    all x. Computed in float64. Raises TypeError for another kind of law.
    """
    if hasattr(law, "tweedie"):
        return law.tweedie(alpha, sigma)
    if not isinstance(law, GaussianMixture):
        raise TypeError(f"law must be a GaussianMixture, a Subspace or a Sphere, got {type(law).__name__}")
    given = _mixture_moments(law, alpha, sigma)

    def moments(x, g):
        score, x_0, gradient = given(x, g)
        return score, dot(x_0, g), gradient

    return moments


def dot(a, b):
    """The sum of a b over the last axis, with broadcasting; NumPy arrays or torch tensors."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.einsum("...d,...d->...", a, b)
    return (a * b).sum(-1)


def _mixture_moments(p, alpha, sigma):
    # moments(x, g) -> score (..., d), E[x_0 | x_t] (..., d), (alpha / h) Cov(x_0 | x_t) g
    alpha, h = _level(alpha, sigma)
    alive = np.flatnonzero(p.weights > 0)
    covs = p.covs.of_components(alive)
    means, variances = p.means[alive].astype(float), np.broadcast_to(covs.variances, (len(alive), p.d))  # (K, d)
    precisions = 1 / (alpha**2 * variances + h)  # (K, d): of component k of x_t, in its eigenvectors
    gains = alpha * variances * precisions  # (K, d): E[x_0 | x_t, k] = mean_k + gain_k (x - alpha mean_k)
    Q = covs.rotation
    axes = list(Q) if Q is not None and Q.ndim == 3 else [Q] * len(alive)
    shifts = alpha * means  # (K, d)

    def component(k, x, g):
        Q = axes[k]
        if Q is None:
            offset = x - shifts[k]  # (..., d)
            return offset, -precisions[k] * offset, means[k] + gains[k] * offset, gains[k] * g
        offset = (x - shifts[k]) @ Q  # (..., d)
        return offset, (-precisions[k] * offset) @ Q.T, means[k] + (gains[k] * offset) @ Q.T, (gains[k] * (g @ Q)) @ Q.T

    if len(alive) == 1:
        return lambda x, g: component(0, x, g)[1:]
    levels = np.log(p.weights[alive]) + 0.5 * np.log(precisions).sum(1)  # (K,)
    spread = alpha / h if h > 0 else 0.0  # no noise, no doubt about the component's E[x_0 | x_t, k] = x / alpha

    def moments(x, g):
        parts = [component(k, x, g) for k in range(len(alive))]
        logs = np.stack([level - 0.5 * dot(inverse * part[0], part[0]) for level, inverse, part in zip(levels, precisions, parts)])
        q = np.exp(logs - logs.max(0))  # (K, ...)
        q /= q.sum(0)
        score, x_0, within = (sum(q_k[..., None] * part[i] for q_k, part in zip(q, parts)) for i in (1, 2, 3))  # (..., d) each
        gradient = within
        for q_k, (_, _, x_0k, _) in zip(q, parts):
            off = x_0k - x_0  # (..., d)
            gradient = gradient + (spread * q_k * dot(off, g))[..., None] * off
        return score, x_0, gradient

    return moments


@dataclass(frozen=True, eq=False)
class Subspace:
    """X = centre + A U + off-span noise: a latent mixture U on a linear subspace, optionally of some thickness.

    Parameters
    ----------
    A : (D, d) float, d <= D, orthonormal columns (to 1e-6; the nearest orthonormal matrix is used).
    latent : `GaussianMixture` in d dimensions; None is N(0, I).
    thickness : variance tau^2 >= 0 of X in each direction orthogonal to A; 0 is the paper's assumption 1.
    centre : (D,) float, a shift of the whole law; None is 0.

    Methods take points x (..., D), float32 or float64, with at least one leading axis. They compute in float64 and, except
    `tweedie`, answer in x's precision. A law of thickness 0 has no density in R^D: noise it first.
    """

    A: np.ndarray
    latent: GaussianMixture = None
    thickness: float = 0.0
    centre: np.ndarray = None

    def __post_init__(self):
        A = _floats("A", self.A)
        if A.ndim != 2 or not 1 <= A.shape[1] <= A.shape[0]:
            raise ValueError(f"A must be (D, d) with 1 <= d <= D, got shape {A.shape}: use A.T if its rows span the subspace")
        error = np.abs(A.T @ A - np.eye(A.shape[1])).max()
        if not error < 1e-6:
            raise ValueError(f"A must have orthonormal columns, got |A^T A - I| up to {error:.2g}: use numpy.linalg.qr(A)[0]")
        left, _, right = np.linalg.svd(A, full_matrices=False)
        latent = GaussianMixture(np.zeros((1, A.shape[1]))) if self.latent is None else self.latent
        if not isinstance(latent, GaussianMixture) or latent.d != A.shape[1]:
            raise ValueError(f"latent must be a GaussianMixture in {A.shape[1]} dimensions, one a column of A, got {latent!r}")
        if not 0 <= self.thickness < np.inf:
            raise ValueError(f"thickness must be a variance >= 0, got {self.thickness!r}")
        centre = np.zeros(len(A)) if self.centre is None else _floats("centre", self.centre)
        if centre.shape != (len(A),):
            raise ValueError(f"centre must be ({len(A)},), got shape {centre.shape}")
        for name, value in dict(A=left @ right, latent=latent, thickness=float(self.thickness), centre=centre).items():
            object.__setattr__(self, name, value)

    @property
    def d(self):
        """Number of dimensions of x, the paper's D."""
        return len(self.A)

    @property
    def classes(self):
        """The labels of the latent components in use, sorted."""
        return self.latent.classes

    def noised(self, alpha, sigma):
        """The law of alpha X + sigma eps, again a `Subspace`: noise off the span is thickness."""
        return self._with(self.latent.noised(alpha, sigma), alpha**2 * self.thickness + sigma**2, alpha * self.centre)

    def gaussian(self):
        """The `Subspace` of a Gaussian latent with the same mean and covariance.

        It is what a linear score learns from this law (Lemma 2 of Guo et al., in substance).
        """
        return self._with(GaussianMixture(self.latent.mean()[None], covs=self.latent.cov()[None]), self.thickness, self.centre)

    def moved(self, mean, cov=None):
        """This law with mean (D,) and, if given, a Gaussian latent of covariance cov (D, D) within the span. Thickness stays.

        Where cov has collapsed, as a refit on its own samples may, a variance of 1e-12 times the largest is kept.
        """
        latent = self.latent
        if cov is not None:
            variances, axes = np.linalg.eigh(self.A.T @ cov @ self.A)  # (d,), (d, d)
            variances = np.maximum(variances, 1e-12 * variances.max())
            latent = GaussianMixture(self.latent.mean()[None], covs=((axes * variances) @ axes.T)[None])
        return self._with(latent, self.thickness, self.centre + mean - self.mean())

    def mean(self):
        """E[X], (D,)."""
        return self.centre + self.A @ self.latent.mean()

    def cov(self):
        """Cov[X], (D, D)."""
        within = self.A @ self.latent.cov() @ self.A.T
        return within + self.thickness * (np.eye(self.d) - self.A @ self.A.T) if self.thickness else within

    def sample(self, n, rng):
        """n independent draws: x (n, D) float64, and the labels (n,) of their latent components. rng: numpy.random.Generator."""
        u, labels = self.latent.sample(n, rng)  # (n, d), (n,)
        x = self.centre + u @ self.A.T  # (n, D)
        if self.thickness:
            off = np.sqrt(self.thickness) * rng.standard_normal(x.shape)  # (n, D)
            x += off - (off @ self.A) @ self.A.T
        return x, labels

    def log_prob(self, x):
        """log p(x), (...)."""
        self._need_thickness("log_prob")
        u, off = self._split(x)
        spare = self.d - self.A.shape[1]
        normal = -0.5 * (dot(off, off) / self.thickness + spare * np.log(2 * np.pi * self.thickness))
        return (self.latent.log_prob(u) + normal).astype(np.asarray(x).dtype)

    def score(self, x):
        """grad log p(x), (..., D)."""
        self._need_thickness("score")
        u, off = self._split(x)
        return (self.latent.score(u) @ self.A.T - off / self.thickness).astype(np.asarray(x).dtype)

    def denoiser(self, x, alpha, sigma):
        """E[x_0 | x_t = x] at a noise level, (..., D)."""
        return _denoiser(self, x, alpha, sigma)

    def off_support(self, x):
        """The off-support ratio |off-span part| / |part in the span| of points x (..., D), seen from the origin: (...)."""
        x = self._points(x)
        within = x @ self.A  # (..., d)
        size = np.linalg.norm(within, axis=-1)  # (...)
        off = np.linalg.norm(x - within @ self.A.T, axis=-1)  # (...)
        return np.divide(off, size, out=np.where(off > 0, np.inf, 0.0), where=size > 0)

    def tweedie(self, alpha, sigma):
        """moments(x, g) -> (score, g^T E[x_0 | x_t], its gradient) at a noise level; see the module's `tweedie`."""
        alpha, h = _level(alpha, sigma)
        A, AT, centre, off_variance = self.A, np.ascontiguousarray(self.A.T), self.centre, alpha**2 * self.thickness + h
        if off_variance == 0:
            raise ValueError("sigma must be > 0 for a law of thickness 0: it has no score at sigma = 0. End the times at t_min > 0")
        off_precision, off_gain, shifted = 1 / off_variance, alpha * self.thickness / off_variance, bool(np.any(centre))
        latent = _mixture_moments(self.latent, alpha, sigma)

        def moments(x, g):
            y = x - alpha * centre if shifted else x  # (..., D)
            u, g_A = y @ A, g @ A  # (..., d), (..., d)
            pull, u_0, slope = latent(u, g_A)  # (..., d), (..., d), (..., d)
            score = (pull + off_precision * u) @ AT - off_precision * y  # (..., D)
            value = dot(u_0, g_A)  # (...)
            if shifted:
                value = value + dot(g, centre)
            if off_gain == 0:
                return score, value, slope @ AT
            value = value + off_gain * (dot(y, g) - dot(u, g_A))
            return score, value, (slope - off_gain * g_A) @ AT + off_gain * g

        return moments

    def _with(self, latent, thickness, centre):
        law = object.__new__(Subspace)  # what is checked once stays right
        for name, value in dict(A=self.A, latent=latent, thickness=thickness, centre=centre).items():
            object.__setattr__(law, name, value)
        return law

    def _points(self, x):
        x = _points(x)
        if x.shape[-1] != self.d:
            raise ValueError(f"x must end in an axis of length D = {self.d}, got shape {x.shape}")
        return x.astype(float, copy=False)

    def _split(self, x):
        y = self._points(x) - self.centre  # (..., D)
        u = y @ self.A  # (..., d)
        return u, y - u @ self.A.T

    def _need_thickness(self, what):
        if self.thickness == 0:
            raise ValueError(f"{what} needs a density, and thickness 0 has none: noise it first, as in law.noised(alpha, sigma).{what}(x)")


@dataclass(frozen=True, eq=False)
class Sphere:
    """X uniform on the sphere of some radius in R^d, plus isotropic noise of variance `thickness`.

    X given x_t follows a von Mises-Fisher law of concentration kappa = alpha radius |x| / h, so that E[x_0 | x_t = x] =
    radius A_d(kappa) x / |x| with the ratio of Bessel functions A_d = I_{d/2} / I_{d/2 - 1} (thickness 0).

    d : int >= 2.  radius : float > 0.  thickness : variance >= 0.  Points x (..., d) as in `Subspace`.
    """

    d: int
    radius: float = 1.0
    thickness: float = 0.0

    def __post_init__(self):
        if int(self.d) != self.d or self.d < 2:
            raise ValueError(f"d must be an integer >= 2, got {self.d!r}")
        if not (0 < self.radius < np.inf and 0 <= self.thickness < np.inf):
            raise ValueError(f"radius must be > 0 and thickness >= 0, got {self.radius!r} and {self.thickness!r}")

    @property
    def classes(self):
        """The one label, 0."""
        return np.zeros(1, int)

    def noised(self, alpha, sigma):
        """The law of alpha X + sigma eps: again a `Sphere`. alpha must be > 0."""
        return Sphere(self.d, alpha * self.radius, alpha**2 * self.thickness + sigma**2)

    def mean(self):
        """E[X] = 0, (d,)."""
        return np.zeros(self.d)

    def cov(self):
        """Cov[X], (d, d)."""
        return (self.radius**2 / self.d + self.thickness) * np.eye(self.d)

    def sample(self, n, rng):
        """n independent draws: x (n, d) float64, and labels (n,), all 0. rng: numpy.random.Generator."""
        x = rng.standard_normal((n, self.d))  # (n, d)
        x *= self.radius / np.linalg.norm(x, axis=1, keepdims=True)
        if self.thickness:
            x += np.sqrt(self.thickness) * rng.standard_normal(x.shape)
        return x, np.zeros(n, int)

    def score(self, x):
        """grad log p(x), (..., d)."""
        points = self._points(x)
        return self.tweedie(1.0, 0.0)(points, np.zeros(self.d))[0].astype(np.asarray(x).dtype)

    def denoiser(self, x, alpha, sigma):
        """E[x_0 | x_t = x] at a noise level, (..., d)."""
        return _denoiser(self, x, alpha, sigma)

    def off_support(self, x):
        """The signed relative distance |x| / radius - 1 of points x (..., d) to the sphere: (...)."""
        return np.linalg.norm(self._points(x), axis=-1) / self.radius - 1

    def tweedie(self, alpha, sigma):
        """moments(x, g) -> (score, g^T E[x_0 | x_t], its gradient) at a noise level; see the module's `tweedie`."""
        alpha, h = _level(alpha, sigma)
        variance = alpha**2 * self.thickness + h
        if variance == 0:
            raise ValueError("sigma must be > 0 for a sphere of thickness 0: it has no score at sigma = 0. End the times at t_min > 0")
        rate, gain = alpha * self.radius / variance, alpha * self.thickness / variance

        def moments(x, g):
            size = np.linalg.norm(x, axis=-1, keepdims=True)  # (..., 1)
            ratio, slope, over = _bessel_ratio(self.d, rate * size)  # (..., 1) each: A, A', A / kappa
            unit = x / np.where(size > 0, size, 1.0)  # (..., d)
            along = dot(unit, g)[..., None]  # (..., 1)
            value = self.radius * ratio * along  # (..., 1): g^T E[point on the sphere | x_t]
            gradient = self.radius * rate * (slope * along * unit + over * (g - along * unit))  # (..., d)
            score = alpha * self.radius / variance * ratio * unit - x / variance  # (..., d)
            if gain:
                value = value + gain * (dot(x, g)[..., None] - alpha * value)
                gradient = gradient + gain * (g - alpha * gradient)
            return score, value[..., 0], gradient

        return moments

    def _points(self, x):
        x = _points(x)
        if x.shape[-1] != self.d or not np.all(np.isfinite(x)):
            raise ValueError(f"x must be finite and end in an axis of length d = {self.d}, got shape {x.shape}")
        return x.astype(float, copy=False)


def _denoiser(law, x, alpha, sigma):
    points = law._points(x)
    score = law.tweedie(alpha, sigma)(points, np.zeros(law.d))[0]  # (..., d)
    if not alpha > 0:
        raise ValueError(f"denoiser needs alpha > 0, got {alpha!r}")
    return ((points + sigma**2 * score) / alpha).astype(np.asarray(x).dtype)


def _level(alpha, sigma):
    if not (0 <= alpha < np.inf and 0 <= sigma < np.inf) or alpha == sigma == 0:
        raise ValueError(f"a noise level needs finite alpha, sigma >= 0, not both zero, got alpha={alpha!r}, sigma={sigma!r}")
    return float(alpha), float(sigma) ** 2


def _bessel_ratio(d, kappa):
    """A(kappa) = I_{d/2}(kappa) / I_{d/2 - 1}(kappa), its derivative, and A(kappa) / kappa, for kappa >= 0 of any shape.

    Three ranges, since `ive` underflows at small arguments and A' = 1 - A^2 - (d - 1) A / kappa cancels at large ones: a
    continued fraction, `ive`, and the expansion in 1 / kappa whose coefficients follow from that same equation.
    """
    from scipy.special import ive

    kappa = np.asarray(kappa, float)
    nu = d / 2 - 1
    small, large = kappa < nu + 1, kappa > 50 * (nu + 1)
    middle = ~(small | large)
    over = np.empty_like(kappa)
    slope = np.empty_like(kappa)
    k = kappa[small]
    level = np.zeros_like(k)  # A_{nu + j} / kappa, from j = FRACTION down to 0
    for j in range(FRACTION, 0, -1):
        level = 1 / (2 * (nu + j) + k * k * level)
    over[small] = level
    k = kappa[middle]
    over[middle] = ive(nu + 1, k) / ive(nu, k) / k
    ratio = kappa * over
    moderate = small | middle
    slope[moderate] = 1 - ratio[moderate] ** 2 - (d - 1) * over[moderate]
    k, a = kappa[large], [1.0]
    for j in range(1, SERIES):
        a.append(((j - d) * a[j - 1] - sum(a[i] * a[j - i] for i in range(1, j))) / 2)
    ratio[large] = sum(a_j * k**-j for j, a_j in enumerate(a))
    over[large] = ratio[large] / k
    slope[large] = sum(-j * a_j * k ** -(j + 1.0) for j, a_j in enumerate(a) if j)
    return ratio, slope, over
