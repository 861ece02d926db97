"""Problem set 2: the reference and a second solution get everything, nothing gets nothing, and each mistake costs what it should."""
import pytest

FULL = {"ps2-check-log-odds": 5, "ps2-check-squeeze": 5, "ps2-check-entropy": 7, "ps2-check-multiplier": 4, "ps2-check-split": 4,
        "ps2-check-prediction": 4}
SEEDS = (0, 1, 2026, 987654321)

OTHER = {  # the same answers by other means: loops, pairs of components, the slope of the flow, finite differences
    "ps2-log-odds": """
def log_odds(x, means, variances, weights, labels, c):
    found = np.zeros(len(x))
    for i in range(len(x)):
        sides = {True: -np.inf, False: -np.inf}
        for mean, v, weight, label in zip(means, variances, weights, labels):
            if weight > 0:
                gap = np.linalg.norm(x[i] - mean) / np.sqrt(v)
                log = np.log(weight / np.sqrt(v) ** len(mean)) - gap * gap / 2
                sides[label == c] = np.logaddexp(sides[label == c], log)
        found[i] = sides[True] - sides[False]
    return found.tolist()
""",
    "ps2-squeeze": """
def squeeze(x, r, means, cov, weights, w):
    sigma_t = r * r * np.asarray(cov) + (1 - r * r) * np.eye(x.shape[1])
    total = np.zeros(len(x))
    for j in range(len(means)):
        for k in range(j):  # half the sum over ordered pairs
            gap = np.linalg.solve(sigma_t, means[j] - means[k])
            total += gap @ gap * share(j, x, r, means, sigma_t, weights) * share(k, x, r, means, sigma_t, weights)
    return w * r * total

def share(j, x, r, means, sigma_t, weights):
    log_ratio = []
    for k in range(len(means)):
        difference, middle = means[k] - means[j], 0.5 * r * (means[k] + means[j])
        log_ratio.append(np.log(weights[k] / weights[j]) + r * (x - middle) @ np.linalg.solve(sigma_t, difference))
    from scipy.special import logsumexp
    return np.exp(-logsumexp(log_ratio, axis=0))
""",
    "ps2-guided-entropy": """
def guided_entropy(means, v, weights, c, w, steps=250):
    # No identity: fixed Runge-Kutta steps in the angle carry the path and the log of its slope.
    xi = np.linspace(-6.5, 6.5, 241)
    top = np.arccos(np.exp(-10.0))

    def rate(theta, x):
        r = np.cos(theta)
        s = r * r * v + np.sin(theta) ** 2
        e = weights * np.exp(-(x[:, None] - r * means) ** 2 / (2 * s))
        total = e.sum(1)
        m, second = e @ means / total, e @ means ** 2 / total
        minus = np.sin(theta)  # dr = -sin(theta) d theta
        field = (r * (v - 1) * x + means[c] + w * (means[c] - m)) / s
        slope = r * (v - 1) / s - w * r * (second - m * m) / s ** 2
        return -minus * field, -minus * slope

    x, log_slope, h, theta = xi.copy(), np.zeros_like(xi), -top / steps, top
    for _ in range(steps):
        a, p = rate(theta, x)
        b, q = rate(theta + h / 2, x + h / 2 * a)
        f, g = rate(theta + h / 2, x + h / 2 * b)
        last, end = rate(theta + h, x + h * f)
        x, log_slope, theta = x + h / 6 * (a + 2 * b + 2 * f + last), log_slope + h / 6 * (p + 2 * q + 2 * g + end), theta + h
    density = np.exp(-xi ** 2 / 2) / np.sqrt(2 * np.pi)
    return 0.5 * np.log(2 * np.pi * np.e) + np.trapezoid(density * log_slope, xi)
""",
    "ps2-multiplier": """
def step(x, r, w, d, means, weights, sampler):
    # the drift of one Euler step at a number x, from the scores
    near = weights * np.exp(-(x - r * means) ** 2 / 2)
    score, own = -x + r * (near @ means) / near.sum(), -x
    guided = own + w * (own - score)
    return x + d * (x + (1 if sampler == "ddim" else 2) * guided)

def multiplier(r, w, d, means, weights, sampler):
    h = 1e-4
    return np.array([(step(h, one, w, d, means, weights, sampler) - step(-h, one, w, d, means, weights, sampler)) / (2 * h) for one in r])
""",
    "ps2-split-strength": """
def split_strength(N, means, weights):
    from scipy.optimize import brentq
    start = [np.exp(-10 + 10 * j / N) for j in range(N)]
    push = np.array([r * r * np.sum(weights * means ** 2 * np.exp(-(r * means) ** 2 / 2)) / np.sum(weights * np.exp(-(r * means) ** 2 / 2))
                     for r in start])

    def largest(w):
        best = size = -np.inf
        size = 0.0
        for factor in 1 - 10 / N * w * push:
            size += np.log(max(abs(factor), 1e-200))
            best = max(best, size)
        return best

    w = 0.05 * N
    while largest(w * 1.004) <= 0:
        w *= 1.004
    return np.array([brentq(largest, w, w * 1.004, xtol=1e-6)])
""",
    "ps2-prediction": """
behaviour, sizes = ["" for _ in steps], np.ones(3)
for i in range(3):
    N, w, biggest, negative = int(steps[i]), strengths[i], 0, False
    for j in range(N):
        r = np.exp(-10 + j * 10 / N)
        up = np.exp(-(r * a) ** 2 / 2)
        M = 1 - 10 * w / N * r * r * a * a * 2 * up / (2 * up + 1)
        sizes[i], negative = sizes[i] * abs(M), negative or M < 0
        biggest = max(biggest, sizes[i])
    behaviour[i] = "Splits" if biggest > 1 else "zig-zags" if negative else "shrinks"
sizes = np.log10(sizes)
""",
}

ALL_ZERO = {"ps2-log-odds": "def log_odds(x, *rest):\n    return 0 * x[:, 0]",
            "ps2-squeeze": "def squeeze(x, *rest):\n    return 0 * x[:, 0]",
            "ps2-guided-entropy": "def guided_entropy(*law):\n    return 0.0",
            "ps2-multiplier": "def multiplier(r, *rest):\n    return 0 * r",
            "ps2-split-strength": "def split_strength(*law):\n    return 0.0",
            "ps2-prediction": "behaviour, sizes = ['splits'] * 3, np.zeros(3)"}
ALL_NAN = {name: code.replace("0 * x[:, 0]", "np.nan * x[:, 0]").replace("0 * r", "np.nan * r").replace("return 0.0", "return np.nan")
           .replace("np.zeros(3)", "np.full(3, np.nan)") for name, code in ALL_ZERO.items()}
FIRST_ARGUMENT = {"ps2-log-odds": "def log_odds(x, *rest):\n    return x[:, 0]",
                  "ps2-squeeze": "def squeeze(x, *rest):\n    return x[:, 0]",
                  "ps2-guided-entropy": "def guided_entropy(means, v, weights, c, w):\n    return 0.5 * np.log(2 * np.pi * np.e * v)",
                  "ps2-multiplier": "def multiplier(r, *rest):\n    return r",
                  "ps2-split-strength": "def split_strength(N, *rest):\n    return 0.72 * N",
                  "ps2-prediction": "behaviour, sizes = ['zig-zags'] * 3, strengths"}
PACKAGE = {
    "ps2-log-odds": "def log_odds(x, means, variances, weights, labels, c):\n    from guidance import GaussianMixture\n"
                    "    log_p = GaussianMixture(means, weights, variances[:, None], labels).log_posterior(x, c)\n"
                    "    return log_p - np.log(-np.expm1(log_p))",
    "ps2-guided-entropy": "def guided_entropy(means, v, weights, c, w):\n    from guidance import GaussianMixture, exact\n"
                          "    return exact.FlowMap(GaussianMixture(means[:, None], weights, v), c, w, T=10.0).entropy()"}

WRONG = {  # name: (cells of the reference, what is replaced in them), the points that are left in the checks it touches
    "densities-in-place-of-logarithms": (
        {"ps2-log-odds": [("return logsumexp(logs[:, labels == c], axis=1) - logsumexp(logs[:, labels != c], axis=1)",
                           "e = np.exp(logs); return np.log(e[:, labels == c].sum(1) / e[:, labels != c].sum(1))")]},
        {"ps2-check-log-odds": 3}),
    "one-minus-the-confidence": (
        {"ps2-log-odds": [("return logsumexp(logs[:, labels == c], axis=1) - logsumexp(logs[:, labels != c], axis=1)",
                           "p = np.exp(logsumexp(logs[:, labels == c], axis=1) - logsumexp(logs, axis=1)); return np.log(p / (1 - p))")]},
        {"ps2-check-log-odds": 3}),
    "one-minus-the-confidence-by-log1p": (
        {"ps2-log-odds": [("return logsumexp(logs[:, labels == c], axis=1) - logsumexp(logs[:, labels != c], axis=1)",
                           "log_p = logsumexp(logs[:, labels == c], axis=1) - logsumexp(logs, axis=1)\n"
                           "    return log_p - np.log1p(-np.exp(log_p))")]},
        {"ps2-check-log-odds": 3}),
    "unequal-variances-not-normalised": ({"ps2-log-odds": [("x.shape[1] * np.log(variances)", "0")]}, {"ps2-check-log-odds": 3}),
    "log-of-the-confidence": ({"ps2-log-odds": [("logs[:, labels != c], axis", "logs, axis")]}, {"ps2-check-log-odds": 0}),
    "odds-of-the-wrong-sign": ({"ps2-log-odds": [("return logsumexp(", "return -logsumexp("), (" - logsumexp(", " + logsumexp(")]},
                               {"ps2-check-log-odds": 0}),
    "deviations-in-place-of-variances": ({"ps2-log-odds": [("squares / variances", "squares / variances**2")]}, {"ps2-check-log-odds": 0}),
    "weight-zero-made-tiny": ({"ps2-log-odds": [("np.log(weights)", "np.log(weights + 1e-300)")]}, {"ps2-check-log-odds": 4}),
    "weights-forgotten": ({"ps2-log-odds": [("np.log(weights) - ", "-")]}, {"ps2-check-log-odds": 0}),
    "the-package-computes-the-odds": ({"ps2-log-odds": PACKAGE["ps2-log-odds"]}, {"ps2-check-log-odds": 0}),

    "covariance-without-noise": ({"ps2-squeeze": [("r**2 * cov + (1 - r**2) * np.eye(len(cov))", "cov")]}, {"ps2-check-squeeze": 2}),
    "one-inverse-too-few": ({"ps2-squeeze": [("(b**2).sum(1)", "(b * means).sum(1)"), ("((q @ b) ** 2)", "((q @ b) * (q @ means))")]},
                            {"ps2-check-squeeze": 2}),
    "diagonal-of-the-covariance": ({"ps2-squeeze": [("np.linalg.inv(r**2 * cov + (1 - r**2) * np.eye(len(cov)))",
                                                     "np.diag(1 / (r**2 * np.diag(cov) + 1 - r**2))")]}, {"ps2-check-squeeze": 3}),
    "second-moment": ({"ps2-squeeze": [(" - ((q @ b) ** 2).sum(1)", "")]}, {"ps2-check-squeeze": 0}),
    "squeeze-with-one-plus-w": ({"ps2-squeeze": [("return w * r", "return (1 + w) * r")]}, {"ps2-check-squeeze": 0}),
    "no-shift-before-the-exponential": ({"ps2-squeeze": [("logs - logs.max(1, keepdims=True)", "logs")]}, {"ps2-check-squeeze": 4}),
    "data-in-place-of-noised-centres": ({"ps2-squeeze": [("x[:, None] - r * means", "x[:, None] - means")]}, {"ps2-check-squeeze": 0}),

    "along-the-unguided-path": ({"ps2-guided-entropy": [(" + w * (means[c] - m)", "")]}, {"ps2-check-entropy": 0}),
    "entropy-with-one-plus-w": ({"ps2-guided-entropy": [("lost = w *", "lost = (1 + w) *"), ("+ w * (m", "+ (1 + w) * (m")]},
                                {"ps2-check-entropy": 0}),
    "entropy-gained": ({"ps2-guided-entropy": [("-lost", "lost")]}, {"ps2-check-entropy": 0}),
    "from-data-to-noise": ({"ps2-guided-entropy": [("(r0, 1.0)", "(1.0, r0)")]}, {"ps2-check-entropy": 0}),
    "one-factor-of-the-variance": ({"ps2-guided-entropy": [("/ s**2", "/ s")]}, {"ps2-check-entropy": 0}),
    "too-few-starts": ({"ps2-guided-entropy": [("np.linspace(-7, 7, 161)", "np.linspace(-7, 7, 11)")]}, {"ps2-check-entropy": 5}),
    "tolerances-of-the-solver-left-alone": ({"ps2-guided-entropy": [(", rtol=1e-7, atol=1e-9", "")]}, {"ps2-check-entropy": None}),
    "random-starts": ({"ps2-guided-entropy": [("node = np.linspace(-7, 7, 161)", "node = np.random.default_rng(0).standard_normal(5000)"),
                                               ("share = np.exp(-0.5 * node**2)", "share = np.ones(len(node))")]},
                      {"ps2-check-entropy": 0}),
    "the-package-computes-the-entropy": ({"ps2-guided-entropy": PACKAGE["ps2-guided-entropy"]}, {"ps2-check-entropy": 0}),

    "multiplier-with-one-plus-w": ({"ps2-multiplier": [("d * w *", "d * (1 + w) *")]}, {"ps2-check-multiplier": 0, "ps2-check-split": 0}),
    "multiplier-of-three-equal-centres": (
        {"ps2-multiplier": [("q = weights *", "means, weights = np.sort(means)[1:4], np.ones(3); q = weights *")]},
        {"ps2-check-multiplier": 0, "ps2-check-split": 0}),
    "multiplier-of-the-wrong-sign": ({"ps2-multiplier": [("1 - d * w", "1 + d * w"), ("(1 - d) - 2", "(1 - d) + 2")],
                                      "ps2-split-strength": [("slope = 1 - mul", "slope = -1 + mul")]}, {"ps2-check-multiplier": 0}),
    "sizes-in-place-of-multipliers": ({"ps2-multiplier": [("return 1 - d * w * r**2 * variance", "return np.abs(1 - d * w * r**2 * variance)")],
                                       "ps2-split-strength": "split_strength = lambda *law: np.nan"},
                                      {"ps2-check-multiplier": 2, "ps2-check-split": 0}),
    "one-score-in-ddpm": ({"ps2-multiplier": [("- 2 * d * w", "- d * w")]}, {"ps2-check-multiplier": 2}),
    "drift-of-ddpm-forgotten": ({"ps2-multiplier": [("(1 - d) - 2", "1 - 2")]}, {"ps2-check-multiplier": 2}),
    "posterior-without-noise": ({"ps2-multiplier": [("np.multiply.outer(r**2, means**2)", "np.multiply.outer(0 * r + 1, means**2)")]},
                                {"ps2-check-multiplier": 0, "ps2-check-split": 0}),

    "levels-at-the-end-of-the-step": ({"ps2-split-strength": [("np.arange(N)", "np.arange(1, N + 1)")]}, {"ps2-check-split": 2}),
    "only-the-end-of-the-run": ({"ps2-split-strength": [("1e-300)).max() > 0", "1e-300))[-1] > 0")]}, {"ps2-check-split": 2}),
    "local-growth-taken-for-the-split": ({"ps2-split-strength": [("while not torn(high):", "while False:")]}, {"ps2-check-split": 0}),
    "the-chapter's-number": ({"ps2-split-strength": "def split_strength(N, means, weights):\n    return 0.7123 * N"}, {"ps2-check-split": 0}),
    "split-strength-minus-one": ({"ps2-split-strength": [("return high", "return high - 1")]}, {"ps2-check-split": 0}),

    "numbers-of-last-year": ({"ps2-prediction": "behaviour, sizes = ['splits', 'shrinks', 'zig-zags'], [2.31, -1.28, -9.87]"},
                             {"ps2-check-prediction": None}),
    "natural-logarithms": ({"ps2-prediction": [("np.log10", "np.log")]}, {"ps2-check-prediction": 2}),
    "sizes-one-step-late": ({"ps2-prediction": [("[:-1])", "[1:])")]}, {"ps2-check-prediction": 2}),
    "every-local-growth-is-a-split": ({"ps2-prediction": [("P.max() > 0", "np.abs(M).max() > 1")]}, {"ps2-check-prediction": 2}),
}
NO_ANSWER = {"zeros": ALL_ZERO, "not-a-number": ALL_NAN, "what-it-is-given": FIRST_ARGUMENT}


def rounds():
    """The mistakes, packed into few submissions: in each, no two touch the same cells or the same checks."""
    packed = []
    for name, (changes, left) in WRONG.items():
        mine = {*changes, *left}
        fits = (part for part in packed if not any(mine & {*WRONG[other][0], *WRONG[other][1]} for other in part))
        part = next(fits, None)
        if part is None:
            packed.append([name])
        else:
            part.append(name)
    return packed


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_has_full_marks(marked, seed):
    assert marked("ps2", seed) == FULL


@pytest.mark.parametrize("seed", SEEDS[1:])
def test_a_second_solution_has_full_marks(marked, seed):
    assert marked("ps2", seed, OTHER) == FULL


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_blank_notebook_has_no_points(marked, seed):
    assert marked("ps2", seed, blank=True) == dict.fromkeys(FULL, 0)


@pytest.mark.parametrize("kind", NO_ANSWER)
def test_an_answer_that_says_nothing_has_no_points(marked, kind):
    assert marked("ps2", 3, NO_ANSWER[kind]) == dict.fromkeys(FULL, 0)


@pytest.mark.parametrize("mistakes", rounds(), ids="+".join)
def test_a_mistake_costs_what_it_should_and_nothing_elsewhere(marked, mistakes):
    expected, changes = dict(FULL), {}
    for name in mistakes:
        changes |= WRONG[name][0]
        expected |= WRONG[name][1]
    points = marked("ps2", 3, changes)
    unknown = {check for check, left in expected.items() if left is None}
    assert {check: points[check] for check in FULL if check not in unknown} == {
        check: left for check, left in expected.items() if check not in unknown}
    assert all(points[check] < FULL[check] for check in unknown)
