"""Problem set 5: the reference gets everything, nothing gets nothing, and each mistake costs what it should."""
import numpy as np
import pytest
from homework import release

FULL = {"ps5-check-terms": 8, "ps5-check-ratio": 2, "ps5-check-push": 6, "ps5-check-draws": 4, "ps5-check-rounds": 6,
        "ps5-check-prediction": 4}
SEEDS = (0, 1, 2026, 987654321)

# The same answers written differently: derivatives by differences, conditioning on the joint covariance, a differential equation
# in place of the integral, singular value decompositions, loops, and rounds that are run.
OTHER = {
    "ps5-terms": '''
def denoise(x, alpha, mu, Sigma):
    noised = alpha**2 * Sigma + (1 - alpha**2) * np.identity(len(mu))
    inverse = np.linalg.inv(noised)
    return np.array([(row - (1 - alpha**2) * inverse @ (row - alpha * mu)) / alpha for row in x])

def look_ahead_term(x, alpha, mu, Sigma, g, y, sigma):
    D, h = len(mu), 1 - alpha**2
    joint = np.zeros((D + 1, D + 1))
    joint[:D, :D] = alpha**2 * Sigma + h * np.eye(D)
    joint[D, :D] = joint[:D, D] = alpha * Sigma @ g
    joint[D, D] = g @ Sigma @ g + sigma**2
    beta = np.linalg.inv(joint)[D, D] / 2  # the inverse of a conditional variance

    def loss(x):
        return (y - denoise(x, alpha, mu, Sigma) @ g) ** 2

    step = 1e-3
    slopes = [(loss(x + step * e) - loss(x - step * e)) / (2 * step) for e in np.eye(D)]
    return -beta * np.stack(slopes, axis=1)

def naive_term(x, alpha, mu, Sigma, g, y, beta):
    return np.outer(beta * (y - (denoise(x, alpha, mu, Sigma) * g).sum(-1)), g)
''',
    "ps5-ratio": '''
def off_ratio(x, B):
    Q, _ = np.linalg.qr(B)
    ratios = []
    for row in x:
        inside = sum((row @ q) ** 2 for q in Q.T)
        ratios.append(np.sqrt((row @ row - inside) / inside))
    return np.array(ratios)
''',
    "ps5-push": '''
from scipy.integrate import solve_ivp

def left_behind(push, eps, tau2):
    def slope(u, m):  # in u = log t, downwards
        t = np.exp(u)
        return t * ((1 / (1 - (1 - tau2) * np.exp(-t)) - 0.5) * m - push(t))
    run = solve_ivp(slope, (np.log(60.0), np.log(eps)), [2 * push(60.0)], method="DOP853", rtol=1e-8, atol=1e-11)
    return float(run.y[0, -1])
''',
    "ps5-draws": '''
def guided_draws(mu, Sigma, g, y, sigma, n, rng):
    spread = sigma**2 + g @ Sigma @ g
    mean = mu + Sigma @ g * ((y - g @ mu) / spread)
    cov = Sigma - np.outer(Sigma @ g, Sigma @ g) / spread
    left, sizes, _ = np.linalg.svd(cov)
    return np.array([mean + left @ (np.sqrt(sizes) * rng.normal(size=len(mu))) for _ in range(n)])
''',
    "ps5-rounds": '''
def next_mean(z, grad_f, mu, Sigma, sigma, delta, w):
    g = np.array(grad_f(z))
    centre = mu + w * (z - mu)
    target = delta + np.dot(g, z)
    root = np.linalg.svd(Sigma)[0] * np.sqrt(np.linalg.svd(Sigma)[1])  # x = centre + root e, and least squares for e
    e = np.linalg.solve(np.eye(len(mu)) + root.T @ np.outer(g, g) @ root / sigma**2,
                        root.T @ g * (target - g @ centre) / sigma**2)
    return centre + root @ e

def regularised_optimum(Q, b, mu, Sigma, lam):
    values, vectors = np.linalg.eigh(Sigma)
    keep = values > 1e-9 * values.max()
    S = vectors[:, keep] * np.sqrt(values[keep])  # x = mu + S v, and the penalty is |v|^2
    v = np.linalg.solve(S.T @ Q @ S + lam * np.eye(keep.sum()), S.T @ (b - Q @ mu))
    return mu + S @ v
''',
    "ps5-prediction": '''
from scipy.optimize import brentq

points, multipliers, kinds = [], [], []
for r, d in zip(rho, delta):
    def practical(s):
        g = -2 * (s - 3)
        return g * r * (d + g * s) / (0.01 + g * g * r)
    point = brentq(lambda s: practical(s) - s, 1e-6, 3 - 1e-6)
    points.append(round(point, 4))
    multipliers.append(round((practical(point + 1e-5) - practical(point - 1e-5)) / 2e-5, 4))
    ends = []
    for rule in (practical, lambda s: 2 * d / 0.01 * r * (3 - s)):
        s = 0.0
        for _ in range(5000):
            s = max(min(rule(s), 1e9), -1e9)
        ends.append(abs(rule(s) - s) < 1e-4)
    kinds.append(sum(ends))
both, only_practical, neither = kinds.index(2), kinds.index(1), kinds.index(0)
''',
}

PACKAGE = '''
from guidance import GaussianMixture, OU, optimize

def fields(x, alpha, mu, Sigma):
    law = GaussianMixture(mu[None], covs=Sigma[None])
    return law, -np.log(alpha), law.noised(alpha, (1 - alpha**2)**0.5).score(x)

def denoise(x, alpha, mu, Sigma):
    return (x + (1 - alpha**2) * fields(x, alpha, mu, Sigma)[2]) / alpha

def look_ahead_term(x, alpha, mu, Sigma, g, y, sigma):
    law, t, plain = fields(x, alpha, mu, Sigma)
    return optimize.look_ahead(law, g, y, OU(), sigma=sigma)(x, t) - plain

def naive_term(x, alpha, mu, Sigma, g, y, beta):
    law, t, plain = fields(x, alpha, mu, Sigma)
    return optimize.gradient_guidance(law, g, y, OU(), beta=beta)(x, t) - plain
'''

WRONG = {  # cell: its mistakes: {name: (what is replaced in the reference, or the whole cell; the points that are left)}
    "ps5-terms": {
        "look-ahead-of-the-wrong-sign": ([("return miss[", "return -miss[")], 3),
        "beta-without-the-half": ([("return miss[", "return 2 * miss[")], 5),
        "gradient-not-through-the-denoiser": ([("slope = gain @ g", "slope = g")], 3),
        "variance-before-x-t-is-seen": ([("(Sigma - alpha * Sigma @ gain)", "Sigma")], 5),
        "square-root-of-h": ([("(1 - alpha**2) *", "np.sqrt(1 - alpha**2) *")], 1),  # the naive term follows their own denoiser
        "naive-term-in-the-span": ([("@ g)[:, None] * g", "@ g)[:, None] * (Sigma @ g)")], 7),
        "the-package-does-it": (PACKAGE, 0),
    },
    "ps5-ratio": {
        "basis-taken-for-orthonormal": ([("np.linalg.lstsq(B, x.T, rcond=None)[0]", "B.T @ x.T")], 1),
        "squares-of-lengths": ([("return np.linalg.norm(x - within, axis=1) / np.linalg.norm(within, axis=1)",
                                 "return ((x - within)**2).sum(1) / (within**2).sum(1)")], 0),
        "share-of-the-whole": ([("/ np.linalg.norm(within, axis=1)", "/ np.linalg.norm(x, axis=1)")], 0),
        "the-package-does-it": ("from guidance.metrics import off_support_ratio as off_ratio", 0),
    },
    "ps5-push": {
        "push-frozen-at-the-end": ([("push(t)", "push(eps)")], 2),
        "tau-to-the-fourth": ([("c = 1 - tau2", "c = 1 - tau2**2")], 3),
        "stop-not-resolved": ([("0, np.log(200 / eps)", "max(0, np.log(0.02 / eps)), np.log(200 / eps)")], 2),
        "wrong-time-direction": ([("0, np.log(200 / eps)", "-20, 0")], 0),
        "closed-form-of-small-eps": ("def left_behind(push, eps, tau2): return push(eps) * eps * np.log(4 / eps)", 0),
        "pull-forgotten": ([("return (np.exp(eps / 2) - c * np.exp(-eps / 2)) *", "return 1.0 *")], 0),
    },
    "ps5-draws": {
        "missing-square-root": ([("np.sqrt(np.maximum(values, 0))", "values")], 2),
        "global-seed": ([("values, vectors", "rng = np.random.default_rng(0)\n    values, vectors")], 3),
        "target-without-noise": ([("- sigma * rng.standard_normal(n)", "")], 2),
        "law-of-the-data-moved": ([("miss[:, None] *", "(y - mu @ g) *")], 2),
        "one-noise-for-all": ([("(n, len(mu))", "len(mu)")], 0),
    },
    "ps5-rounds": {
        "w-against-one-minus-w": ([("(1 - w) * mu + w * z", "w * mu + (1 - w) * z")], 3),
        "aim-counted-from-the-wrong-mean": ([("miss = delta + g @ z - g @ centre", "miss = delta")], 4),
        "gradient-at-the-refitted-mean": ([("g = grad_f(z)", "g = grad_f((1 - w) * mu + w * z)")], 4),
        "sigma-not-squared": ([("sigma**2", "sigma")], 3),
        "leash-upside-down": ([("lam * np.eye", "1 / lam * np.eye")], 3),
        "rounds-in-place-of-the-optimum": ([(
            "return mu + np.linalg.solve(lam * np.eye(len(mu)) + Sigma @ Q, Sigma @ (b - Q @ mu))",
            "x = mu\n    for _ in range(2000):\n        x = mu + Sigma @ (b - Q @ x) / lam\n    return x")], 4),
    },
    "ps5-prediction": {
        "multiplier-of-the-other-rule": ([("(v - 2 * rho * delta) / (v + 0.1**2)", "-2 * rho * delta / 0.1**2")], 1),
        "regularisation-upside-down": ([("lam = 0.1**2 / delta", "lam = delta / 0.1**2")], 0),
        "sigma-not-squared": ([("0.1**2", "0.1")], 0),
        "border-in-the-wrong-place": ([("contracts, settles = 2 * rho < lam", "contracts, settles = rho < 0.1 * lam")], 3),
    },
}
ROUNDS = max(map(len, WRONG.values()))  # submissions that hold them all, one mistake in a cell

# Nothing of the problem in the answer: no point anywhere.
EMPTY = {
    "zeros": ("np.zeros_like(x)", "np.zeros(len(x))", "0.0", "np.zeros((n, len(mu)))", "np.zeros(len(mu))", "[0.0] * 3"),
    "nan": ("x * np.nan", "np.full(len(x), np.nan)", "np.nan", "np.full((n, len(mu)), np.nan)", "mu * np.nan", "[np.nan] * 3"),
    "input": ("x", "x", "push(eps)", "mu + rng.standard_normal((n, len(mu)))", "mu", "list(delta)"),
    "ones": ("np.ones_like(x)", "np.ones(len(x))", "1.0", "np.ones((n, len(mu)))", "np.ones(len(mu))", "[1.0] * 3"),
}


def empty(rows, ratio, number, draws, vector, three):
    return {
        "ps5-terms": f"def denoise(x, alpha, mu, Sigma): return {rows}\n"
                     f"def look_ahead_term(x, alpha, mu, Sigma, g, y, sigma): return {rows}\n"
                     f"def naive_term(x, alpha, mu, Sigma, g, y, beta): return {rows}\n",
        "ps5-ratio": f"def off_ratio(x, B): return {ratio}\n",
        "ps5-push": f"def left_behind(push, eps, tau2): return {number}\n",
        "ps5-draws": f"def guided_draws(mu, Sigma, g, y, sigma, n, rng): return {draws}\n",
        "ps5-rounds": f"def next_mean(z, grad_f, mu, Sigma, sigma, delta, w): return {vector.replace('mu', 'z')}\n"
                      f"def regularised_optimum(Q, b, mu, Sigma, lam): return {vector}\n",
        "ps5-prediction": f"both = only_practical = neither = 0\npoints = multipliers = {three}\n",
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_has_full_marks_and_a_blank_notebook_none(marked, seed):
    assert marked("ps5", seed) == FULL
    assert set(marked("ps5", seed, blank=True).values()) == {0}


@pytest.mark.parametrize("seed", (4, 5))
def test_the_same_answers_written_differently_have_full_marks(marked, seed):
    assert marked("ps5", seed, OTHER) == FULL


@pytest.mark.parametrize("kind", EMPTY)
def test_an_empty_answer_has_no_point(marked, kind):
    assert set(marked("ps5", 3, empty(*EMPTY[kind])).values()) == {0}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_mistake_costs_what_it_should_and_nothing_elsewhere(marked, number):
    planted = {cell: list(mistakes.items())[number] for cell, mistakes in WRONG.items() if number < len(mistakes)}
    points = marked("ps5", 3, {cell: change for cell, (_, (change, _)) in planted.items()})
    for cell, check in zip(WRONG, FULL):
        name, (_, left) = planted.get(cell, ("no mistake", (None, FULL[check])))
        assert points[check] == left, name


def test_last_years_numbers_are_worth_nothing(marked):
    old, new = ({}, {})
    for seed, names in ((8, old), (3, new)):
        for code in release.public_cells(release.student_version("ps5", seed)):
            exec(code, {"np": np}, names)
    solution = next(cell.source for cell in release.solution_version("ps5", 8).cells if cell.id == "ps5-prediction")
    last_year = "".join(f"{name} = np.array({list(old[name])})\n" for name in ("rho", "delta")) + solution
    assert not np.allclose(old["delta"], new["delta"], rtol=0.05)
    assert marked("ps5", 3, {"ps5-prediction": last_year}) == FULL | {"ps5-check-prediction": 0}
