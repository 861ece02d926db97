"""Guidance as optimisation: naive and look-ahead gradient guidance, and the two algorithms built on them.

Guo, Yuan, Yang, Chen & Wang, "Gradient guidance for diffusion models: an optimization perspective" (2404.14743). Symbols are
the paper's: data X = A U on a subspace, a reward f known through its gradient g, a target y for the linear model
y = g^T x_0 + noise of standard deviation sigma, and x_t = alpha(t) x_0 + sqrt(h(t)) eps. A guided score is score + G, with

    naive         G      = beta(t) (y - g^T E[x_0 | x_t]) g                             (Proposition 3)
    look-ahead    G_loss = -beta(t) grad_{x_t} (y - g^T E[x_0 | x_t])^2                 (Definition 1)

The gradient passes through E[x_0 | x_t] = (x_t + h score) / alpha, so G_loss is g seen through (alpha / h) Cov(x_0 | x_t), which
vanishes across the subspace (Theorem 1). For exact laws that product is a closed form, for a network one backward pass.

g is (D,) with a number y, or (n, D) with y (n,) when each of n samples has its own, as in the official experiments.
"""
from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .manifolds import Subspace, dot, tweedie
from .mixtures import GaussianMixture
from .samplers import _checked_times, _finite, _noise_source, sample

TARGETS = ("practical", "theorem")
GUIDANCES = ("look-ahead", "naive")
REFITS = ("mean", "mean and covariance")


# --- guided score fields ------------------------------------------------------------------------------------------


def look_ahead(law, g, y, process, *, sigma=0.1, beta=None):
    """The score guided by the look-ahead loss: score + G_loss (Definition 1).

    Parameters
    ----------
    law : an exact law (`GaussianMixture`, `Subspace`, `Sphere`), a `learn.ScoreNetwork`, or any score(x, t) that torch can
        differentiate: one forward and one backward pass give the score and the gradient.
    g : (D,) or (n, D), the gradient of the reward.
    y : number or (n,), the target value of g^T x_0.
    process : gives alpha(t) and sigma(t), with h = sigma(t)^2.
    sigma : > 0, the standard deviation of y given x_0; not the process's.
    beta : "exact", Lemma 1's 1 / (2 (sigma^2 + g^T Cov(x_0 | x_t) g)), for which score + G_loss is the score given y when
        the law is Gaussian; "official", (alpha^2 / 2) / (alpha^2 sigma^2 + h |grad g^T E[x_0 | x_t]|^2), which equals it when the
        covariance of X is A A^T; a number; or a function of t. Default: "exact" for an exact law; "official" for a learned score,
        whose g^T Cov g may be far off and even negative, which "exact" divides by.

    Returns
    -------
    score(x, t) -> like x (..., D), NumPy or, for a network, torch; for `guidance.sample`.

    Raises
    ------
    TypeError or ValueError for arguments of the wrong type, shape or range, and for a score that torch cannot differentiate.
    """
    beta = _default_beta(law) if beta is None else beta
    _check_beta(beta, ("exact", "official"))
    return _look_ahead(_levels(law, process), *_checked_target(g, y, sigma), beta)


def gradient_guidance(law, g, y, process, *, sigma=0.1, beta="official"):
    """The score guided by the gradient itself: score + beta (y - g^T E[x_0 | x_t]) g, the paper's naive G.

    Parameters
    ----------
    law, g, y, process, sigma : as in `look_ahead`, but nothing is differentiated, so law may be any score(x, t).
    beta : "official", alpha / (sigma^2 + h |g|^2), exact for X ~ N(0, I) (Proposition 3); a number; or a function of t.
        With y = None the field is score + beta(t) g, the form of Proposition 1, and beta must be given.

    Returns score(x, t) -> like x, and raises, as `look_ahead` does.
    """
    _check_beta(beta, ("official",))
    if y is None:
        if beta == "official":
            raise ValueError("beta must be a number or a function of t when y is None: the field is then score + beta(t) g")
        g, _, _ = _checked_target(g, 0.0, sigma)
        return _plain(_levels(law, process, differentiate=False), g, beta)
    return _naive(_levels(law, process, differentiate=False), *_checked_target(g, y, sigma), beta)


def _look_ahead(levels, g, y, sigma, beta):
    def score(x, t):
        alpha, h, moments = levels(t)
        G, Y = _like(x, g), _like(x, y)
        unguided, value, gradient = moments(x, G)  # (..., D), (...), (..., D)
        if beta == "exact":
            b = 0.5 / (sigma**2 + (h / alpha) * dot(gradient, G))  # (h / alpha) gradient = Cov(x_0 | x_t) g
        elif beta == "official":
            b = (alpha**2 / 2) / (alpha**2 * sigma**2 + h * dot(gradient, gradient))
        else:
            b = _at(beta, t)
        return _cast(unguided + (2 * b * (Y - value))[..., None] * gradient, x)

    return score


def _naive(levels, g, y, sigma, beta):
    def score(x, t):
        alpha, h, moments = levels(t)
        G, Y = _like(x, g), _like(x, y)
        unguided, value, _ = moments(x, G)
        b = alpha / (sigma**2 + h * dot(G, G)) if beta == "official" else _at(beta, t)
        return _cast(unguided + (b * (Y - value))[..., None] * G, x)

    return score


def _plain(levels, g, beta):
    def score(x, t):
        G = _like(x, g)
        return _cast(levels(t)[2](x, G)[0] + _at(beta, t) * G, x)

    return score


def _levels(law, process, differentiate=True):
    """levels(t) -> alpha, h, moments, with moments(x, g) -> score, g^T E[x_0 | x_t], its gradient; kept for every t it has seen."""
    if not hasattr(law, "noised"):
        law = _score_of(law)
    seen = {}

    def levels(t):
        if t not in seen:
            alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
            if not alpha > 0:
                raise ValueError(f"E[x_0 | x_t] needs alpha(t) > 0, got alpha({t!r}) = {alpha!r}: start the time grid a little earlier")
            if hasattr(law, "noised"):
                moments = tweedie(law, alpha, sigma)
            else:
                moments = (_differentiated if differentiate else _evaluated)(law, t, alpha, sigma**2)
            seen[t] = alpha, sigma**2, moments
        return seen[t]

    return levels


def _evaluated(score, t, alpha, h):
    def moments(x, g):
        value = score(x, t)
        return value, dot((x + h * value) / alpha, g), None

    return moments


def _differentiated(score, t, alpha, h):
    def moments(x, g):
        import torch

        given = not isinstance(x, np.ndarray)
        points = (x.detach() if given else torch.from_numpy(np.ascontiguousarray(x))).clone().requires_grad_()
        with torch.enable_grad():
            s = score(points, t)  # (..., D)
            if not (isinstance(s, torch.Tensor) and s.requires_grad):
                raise TypeError("law must be an exact law, or a score that torch can differentiate: this one gave no gradient")
            value = dot((points + h * s) / alpha, torch.as_tensor(g, dtype=points.dtype, device=points.device))  # (...)
            (gradient,) = torch.autograd.grad(value.sum(), points)
        parts = s.detach(), value.detach(), gradient
        return parts if given else tuple(part.numpy() for part in parts)

    return moments


def _score_of(law):
    if hasattr(law, "score"):
        return law.score()
    if not callable(law):
        raise TypeError(f"law must be an exact law, a ScoreNetwork or a function score(x, t), got {type(law).__name__}")
    return law


def _at(beta, t):
    return np.float64(beta(t) if callable(beta) else beta)


def _like(x, value):
    """value as the kind of array that x is: NumPy, or a torch tensor of its dtype and device."""
    if isinstance(x, np.ndarray):
        return _numpy(value)
    import torch

    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def _cast(value, x):
    return value if value.dtype == x.dtype else value.astype(x.dtype) if isinstance(x, np.ndarray) else value.to(x.dtype)


def _checked_target(g, y, sigma):
    g, y = (_array(name, value) for name, value in (("g", g), ("y", y)))
    if g.ndim < 1:
        raise ValueError(f"g must be (D,) or (n, D), got shape {g.shape}")
    if y.ndim > 0 and g.ndim > 1 and y.shape != g.shape[:-1]:
        raise ValueError(f"y must be a number or {g.shape[:-1]}, one for each row of g, got shape {y.shape}")
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma!r}: it is the standard deviation of y given x_0")
    return g, y, float(sigma)


def _array(name, value):
    value = value.detach() if hasattr(value, "detach") else np.asarray(value, dtype=float)
    if not _finite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return value


def _default_beta(law, guidance="look-ahead"):
    return "exact" if guidance == "look-ahead" and hasattr(law, "noised") else "official"


def _check_beta(beta, names):
    number = not callable(beta) and not isinstance(beta, str)
    if not callable(beta) and (beta not in names if not number else np.ndim(beta) > 0 or not np.isfinite(beta)):
        raise ValueError(f"beta must be one of {names}, a finite number or a function of t, got {beta!r}")


# --- the two algorithms -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rounds:
    """What an algorithm did: K + 1 entries on a round axis, the first for the unguided round 0.

    Attributes
    ----------
    reward : (K + 1,) the mean of f over the samples of each round.
    reward_of_mean : (K + 1,) f at their mean.
    off_support : (K + 1,) the mean of off_support over the samples, or None without one.
    seconds : (K + 1,) the time each round took, refit included.
    means : (K + 1, D) the mean of the samples.
    targets : (K,) the mean of y_k, which guided round k + 1.
    samples : (n, D) the samples of the last round, NumPy or torch.
    law : the law or score that made them; after `algorithm_2` a refitted one.
    """

    reward: np.ndarray
    reward_of_mean: np.ndarray
    off_support: np.ndarray | None
    seconds: np.ndarray
    means: np.ndarray
    targets: np.ndarray
    samples: np.ndarray
    law: object


def algorithm_1(
    law, f, grad_f, process=None, times=None, *, rounds, n=32, rng, target="practical", delta=None, eta=None, sigma=0.1,
    guidance="look-ahead", beta=None, per_sample=True, method="ddpm", mean=None, cov=None, start=None, off_support=None, progress=True,
):
    """Algorithm 1: sample, take the gradient of the reward at the samples, guide the next round by it.

    With the theorem's targets and a concave, L-smooth f, the mean converges to argmax f(x) - (lambda / 2) |x - mu|^2 in the
    norm of Sigma^-1, lambda = 1 / eta, with rate L / lambda when lambda > L (Theorem 2). A fixed point of the practical targets is
    that optimum at lambda = sigma^2 / delta (our derivation).

    Parameters
    ----------
    law, process, sigma : as in `look_ahead`. A law for method "exact" is a Gaussian one, and needs no process or times.
    f, grad_f : reward and gradient, (m, D) -> (m,) and (m, D) -> (m, D); they get what the sampler makes, NumPy or torch.
    times : decreasing grid, e.g. `Cosine().times(200, spacing="ddpm")`. It must end at t = 0 or at a small t.
    rounds : int >= 1, K. n : int >= 1, samples a round. rng : numpy.random.Generator.
    target : "practical", y_k = delta + g_k^T z_k, which needs delta (the official experiments); "theorem",
        y_k = eta (sigma^2 + g_k^T Sigma g_k) + g_k^T mu, which needs eta = 1 / lambda, and mean (D,) and cov (D, D) if law has none.
    guidance : "look-ahead" or "naive". beta : as in `look_ahead` and `gradient_guidance`; None is their default.
    per_sample : each sample follows its own gradient and target (official code), or all that of their mean (Algorithm 1 as stated).
    method : a method of `sample` ("ddpm" has its own lean loop here, with the same numbers), or "exact": one draw of the law of x
        given y, which the sampler approaches with many steps when the score is linear (Lemma 3).
    start : function (n, rng) -> x_T, NumPy array or torch tensor; None draws N(0, sigma(T)^2 I) in law.d dimensions.
    off_support : function (n, D) -> (n,); None is law.off_support where there is one.
    progress : show a bar over the rounds of a run that takes more than a second.

    Returns
    -------
    Rounds

    Raises
    ------
    TypeError or ValueError for arguments of the wrong type, shape or range; FloatingPointError when a round leaves the finite
    numbers, as it does for lambda < L.
    """
    draw = _sampler(process, times, n, rng, sigma, guidance, beta, method, start)
    aim = _aim(target, delta, eta, sigma)
    mu, Sigma = _moments_of_data(law, target, mean, cov)

    def z_k():
        generate = draw(law)
        z = generate(None, None)  # round 0 is not guided
        yield z, None, law
        for _ in range(rounds):
            g = _gradient(grad_f, z, per_sample)  # (n, D), or (D,) at the mean
            y = aim(g, z, mu, Sigma)
            _check_round(g, y)
            z = generate(g, y)
            yield z, y, law

    return _record(z_k(), f, off_support or getattr(law, "off_support", None), rounds, progress)


def algorithm_2(
    law, f, grad_f, process=None, times=None, *, rounds, n=32, rng, refit="mean", w=1.0, target="practical", delta=None, eta=None,
    sigma=0.1, guidance="look-ahead", beta=None, per_sample=True, method="ddpm", mean=None, cov=None, start=None, off_support=None,
    progress=True,
):
    """Algorithm 2: as `algorithm_1`, and before each guided round refit the score on weighted data D_0, ..., D_k.

    D_0 is the data behind `law`, D_k the samples of the round before. With the refit of the mean, the theorem's targets
    and the numbers of `theorem_3`, f comes within O(log K / K) of its maximum on the subspace (Theorem 3).

    Parameters
    ----------
    refit : "mean", a Gaussian law moves to the weighted mean with its covariance frozen (Theorem 3); "mean and covariance", within
        the span also its covariance is refitted; or a function (score, samples, weights) -> score that tunes a network, with
        samples the list of arrays D_1, ..., D_k and weights (k + 1,), weights[0] that of D_0, which is the function's own to hold.
    w : the weight of the newest samples, in [0, 1], with 1 - w on D_0; or a function k -> (k + 1,), weights of D_0, ..., D_k.

    Everything else is as in `algorithm_1`; with target "theorem" mu is the weighted mean of D_0, ..., D_k.
    """
    draw = _sampler(process, times, n, rng, sigma, guidance, beta, method, start)
    aim = _aim(target, delta, eta, sigma)
    weights, fitted = _weights(w), not callable(refit)
    if fitted:
        _check_refit(refit, law)
    mu_0, Sigma_0 = _moments_of_data(law, "theorem" if fitted else target, mean, cov)

    def z_k():
        score, Sigma, D, means, covs = law, Sigma_0, [], [mu_0], [Sigma_0]  # D_1, ..., D_k; the moments of D_0, ..., D_k
        z = draw(score)(None, None)
        yield z, None, score
        for k in range(1, rounds + 1):
            w_k = _checked_weights(weights(k), k)
            means.append(_numpy(z.mean(0)))
            mu = None if mu_0 is None else w_k @ means  # (D,)
            if refit == "mean":
                score = _moved(law, mu)
            elif refit == "mean and covariance":
                covs.append(np.cov(_numpy(z).T, bias=True))
                Sigma = sum(weight * (C + np.outer(m - mu, m - mu)) for weight, C, m in zip(w_k, covs, means) if weight)
                score = _moved(law, mu, Sigma)
            else:
                D.append(z)
                score = refit(score, D, w_k)
            g = _gradient(grad_f, z, per_sample)
            y = aim(g, z, mu, Sigma)
            _check_round(g, y)
            z = draw(score)(g, y)
            yield z, y, score

    return _record(z_k(), f, off_support or getattr(law, "off_support", None), rounds, progress)


def theorem_3(L, rounds):
    """The numbers of Theorem 3 for an L-smooth reward and K rounds: (eta, lambda, w), three floats.

    lambda = L log K / (4 K), eta = 2 / (L + 2 lambda), and the weight w = 1 - eta lambda of the newest samples.
    """
    if not 0 < L < np.inf:
        raise ValueError(f"L must be positive and finite, got {L!r}")
    _check_count("rounds", rounds, least=2)
    lam = L * np.log(rounds) / (4 * rounds)
    eta = 2 / (L + 2 * lam)
    return float(eta), float(lam), float(1 - eta * lam)


# --- one round ----------------------------------------------------------------------------------------------------


def _sampler(process, times, n, rng, sigma, guidance, beta, method, start):
    """draw(law) -> generate(g, y) -> z (n, D); g = None is not guided."""
    _check_count("n", n)
    if not 0 < sigma < np.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma!r}: it is the standard deviation of y given x_0")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, as numpy.random.default_rng(seed) makes, got {rng!r}")
    if guidance not in GUIDANCES:
        raise ValueError(f"guidance must be one of {GUIDANCES}, got {guidance!r}")
    if method == "exact":
        if guidance != "look-ahead" or beta not in (None, "exact"):
            raise ValueError('method="exact" draws the law given y, which look-ahead guidance with beta="exact" samples: no other')
        return lambda law: _exact_draw(law, n, rng, sigma)
    if process is None or times is None:
        raise ValueError(f"method {method!r} needs process and times, such as Cosine() and Cosine().times(200, spacing=\"ddpm\")")
    if beta is not None:
        _check_beta(beta, ("exact", "official") if guidance == "look-ahead" else ("official",))
    guide = _look_ahead if guidance == "look-ahead" else _naive
    table = _ddpm_table(process, times) if method == "ddpm" else None

    def draw(law):
        plain = _levels(law, process, differentiate=False)
        levels = plain if guidance == "naive" or hasattr(law, "noised") else _levels(law, process)
        b = _default_beta(law, guidance) if beta is None else beta

        def generate(g, y):
            x = start(n, rng) if start else _pure_noise(law, n, float(process.sigma(times[0])), rng)
            field = _plain(plain, np.zeros(x.shape[-1]), 0.0) if g is None else guide(levels, g, y, sigma, b)
            return _ddpm(field, table, x, rng) if method == "ddpm" else sample(field, process, x, times, method, rng, progress=False)

        return generate

    return draw


def _exact_draw(law, n, rng, sigma):
    # Matheron's rule: a draw of (x, y), moved along Cov(x, y) by the error of its y.
    _check_gaussian(law, 'method="exact"')
    Sigma = law.cov()  # (D, D)

    def generate(g, y):
        x, _ = law.sample(n, rng)  # (n, D)
        if g is None:
            return x
        Sigma_g = g @ Sigma  # (D,) or (n, D)
        surprise = y - dot(x, g) - sigma * rng.standard_normal(n)  # (n,)
        return x + (surprise / (sigma**2 + dot(g, Sigma_g)))[:, None] * Sigma_g

    return generate


def _ddpm_table(process, times):
    """(t, a, b, c) of each step x_s = a x_t + b score + c z: the numbers of `samplers.ddpm_step`, computed once for all rounds."""
    times = _checked_times(times)
    alpha, sigma = (np.array([float(scale(t)) for t in times]) for scale in (process.alpha, process.sigma))
    ratio = alpha[:-1] / alpha[1:]
    variance = sigma[:-1] ** 2 - (ratio * sigma[1:]) ** 2
    return list(zip(times[:-1].tolist(), 1 / ratio, variance / ratio, sigma[1:] * np.sqrt(variance) / sigma[:-1]))


def _ddpm(score, table, x, rng):
    noise = _noise_source("ddpm", x, len(table), rng, None)
    for i, (t, a, b, c) in enumerate(table):
        step = b * score(x, t)  # (n, D)
        x = a * x
        x += step
        if c > 0:
            z = noise(i)
            z *= c
            x += z
    return x


def _pure_noise(law, n, sigma, rng):
    if not hasattr(law, "d"):
        raise TypeError("start must be given for a score without a dimension d, such as lambda n, rng: rng.standard_normal((n, 64))")
    return sigma * rng.standard_normal((n, law.d))


def _gradient(grad_f, z, per_sample):
    """g_k, (n, D), or (D,) at the mean of z."""
    points = z if per_sample else z.mean(0)[None]  # (m, D)
    g = grad_f(points)
    if tuple(g.shape) != tuple(points.shape):
        raise ValueError(f"grad_f must return (m, D), a gradient for each of its points {tuple(points.shape)}, got shape {tuple(g.shape)}")
    return g if per_sample else g[0]


def _aim(target, delta, eta, sigma):
    """y_k as a function of g_k, z_k and the mean and covariance of the data behind the score."""
    needed, other = ("delta", "eta") if target == "practical" else ("eta", "delta")
    value, spare = (delta, eta) if target == "practical" else (eta, delta)
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, got {target!r}")
    if value is None or not np.isfinite(value) or spare is not None:
        raise ValueError(f"target {target!r} needs {needed}, a finite number, and no {other}, got delta={delta!r}, eta={eta!r}")
    if target == "practical":
        return lambda g, z, mu, Sigma: delta + dot(g, z if g.ndim > 1 else z.mean(0))

    def theorem(g, z, mu, Sigma):
        mu, Sigma = _like(g, mu), _like(g, Sigma)
        return eta * (sigma**2 + dot(g, g @ Sigma)) + g @ mu

    return theorem


def _moments_of_data(law, target, mean, cov):
    # mu (D,) and Sigma (D, D) of the data behind the score, where the target or the refit needs them.
    if target != "theorem" and mean is None and cov is None:
        return None, None
    if (mean is None or cov is None) and not hasattr(law, "noised"):
        raise ValueError("mean (D,) and cov (D, D) of the training data must be given: a learned score does not know them")
    return law.mean() if mean is None else _array("mean", mean), law.cov() if cov is None else _array("cov", cov)


# --- refits and records -------------------------------------------------------------------------------------------


def _moved(law, mean, cov=None):
    if isinstance(law, Subspace):
        return law.moved(mean, cov)
    return GaussianMixture(mean[None], covs=law.covs if cov is None else cov[None])


def _weights(w):
    if callable(w):
        return w
    if not 0 <= w <= 1:
        raise ValueError(f"w must be in [0, 1], the weight of the newest samples against D_0, or a function of k, got {w!r}")
    return lambda k: np.concatenate([[1 - w], np.zeros(k - 1), [w]])


def _checked_weights(weights, k):
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (k + 1,) or not np.all(weights >= 0) or not abs(weights.sum() - 1) < 1e-9:
        raise ValueError(f"w({k}) must be {k + 1} weights >= 0 of D_0, ..., D_{k} with sum one, got {weights!r}")
    return weights


def _check_refit(refit, law):
    if refit not in REFITS:
        raise ValueError(f"refit must be one of {REFITS} or a function (score, samples, weights) -> score, got {refit!r}")
    _check_gaussian(law, f"refit={refit!r}")


def _check_gaussian(law, what):
    latent = law.latent if isinstance(law, Subspace) else law
    if not isinstance(latent, GaussianMixture) or latent.K > 1:
        raise ValueError(f"{what} needs a Gaussian law, whose score is linear: use law.gaussian() of a Subspace, or one component")


def _record(rounds_of, f, off_support, rounds, progress):
    from tqdm import tqdm  # not tqdm.auto: its notebook bar ignores TQDM_DISABLE

    _check_count("rounds", rounds)
    count = range(rounds + 1)
    rows = []
    # The bar waits a second, so that short runs print nothing.
    for k in tqdm(count, desc="rounds", delay=1, leave=False) if progress else count:
        start = time.perf_counter()
        z, y, law = next(rounds_of)
        seconds = time.perf_counter() - start
        _check_round(z)
        mean = z.mean(0)[None]  # (1, D)
        off = None if off_support is None else float(_rewards("off_support", off_support, z).mean())
        aimed = None if y is None else _numpy(y).mean()
        rows.append((_rewards("f", f, z).mean(), _rewards("f", f, mean)[0], off, seconds, _numpy(mean[0]), aimed))
    reward, reward_of_mean, off, seconds, means, targets = zip(*rows)
    return Rounds(
        reward=np.array(reward),
        reward_of_mean=np.array(reward_of_mean),
        off_support=None if off_support is None else np.array(off),
        seconds=np.array(seconds),
        means=np.array(means),
        targets=np.array(targets[1:]),
        samples=z,
        law=law,
    )


def _check_round(*arrays):
    if not all(_finite(np.asarray(a) if np.isscalar(a) else a) for a in arrays):
        raise FloatingPointError("a round left the finite numbers: take a smaller delta, or a smaller eta (lambda = 1 / eta must exceed L)")


def _rewards(name, f, z):
    values = _numpy(f(z))
    if values.shape != (len(z),):
        raise ValueError(f"{name} must return one number for each of its m points, (m,), got shape {values.shape} for {tuple(z.shape)}")
    return values


def _numpy(value):
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def _check_count(name, value, least=1):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
