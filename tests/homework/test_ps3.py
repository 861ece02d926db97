"""Problem set 3: the reference gets everything, nothing gets nothing, and each mistake costs what it should."""
import pytest

FULL = {"ps3-check-tilt": 10, "ps3-check-draws": 8, "ps3-check-edge": 8, "ps3-check-prediction": 4}
CELLS = {"tilt": "ps3-tilt", "draws": "ps3-draws", "edge": "ps3-edge", "prediction": "ps3-prediction"}
SEEDS = (0, 1, 2026, 987654321)

WRONG = {  # name: (problem, replaced in the reference or put in its place), the points that are left
    # Problem 1
    "tilt-one-plus-w": ("tilt", [("+ w * p.log_posterior", "+ (1 + w) * p.log_posterior")], 1),  # the widths of uneven intervals
    "tilt-wrong-sign": ("tilt", [("+ w * p.log_posterior", "- w * p.log_posterior")], 1),
    "tilt-forgotten": ("tilt", [("+ w * p.log_posterior", "+ 0 * p.log_posterior")], 0),
    "tilt-not-normalised": ("tilt", [("return logs - log_kept, log_kept", "return logs, log_kept")], 1),
    "tilt-one-width-for-all": ("tilt", [("np.exp(logs - peak), grid)", "np.exp(logs - peak), dx=grid[1] - grid[0])")], 9),
    "tilt-share-not-its-logarithm": ("tilt", [("return logs - log_kept, log_kept", "return logs - log_kept, np.exp(log_kept)")], 8),
    "tilt-without-the-shift": ("tilt", [("peak = logs.max()", "peak = 0.0")], 9),
    "gap-the-other-way": ("tilt", [("return flow - np.interp(u, levels[inside], grid[inside])",
                                    "return np.interp(u, levels[inside], grid[inside]) - flow")], 8),
    "gap-flow-one-plus-w": ("tilt", [("cfg(p, label, w, process)", "cfg(p, label, 1 + w, process)")], 6),
    "gap-time-runs-up": ("tilt", [("spacing=\"angle\")", "spacing=\"angle\")[::-1]")], 6),
    "gap-grid-too-short": ("tilt", [("np.linspace(-20, 20,", "np.linspace(-8, 8,")], 9),
    "gap-is-zero": ("tilt", [("return flow - np.interp(u, levels[inside], grid[inside])", "return 0 * u")], 6),
    "tilt-the-package-does-it": ("tilt", """
        from guidance import exact, tilt
        def tilt_on_grid(p, label, w, grid):
            law = tilt.Tilted(p, label, w)
            return law.log_prob(grid[:, None]), law.log_normaliser
        def gap(p, label, w, u):
            return exact.FlowMap(p, label, w).quantile(u) - tilt.Tilted(p, label, w).quantile(u)""", 0),
    "tilt-constant": ("tilt", """
        def tilt_on_grid(p, label, w, grid):
            return 0 * grid, 0.0
        def gap(p, label, w, u):
            return 0 * u + 0.5""", 0),
    "tilt-even-and-normalised": ("tilt", """
        def tilt_on_grid(p, label, w, grid):
            return 0 * grid - np.log(np.ptp(grid)), 0.0
        def gap(p, label, w, u):
            return u - 0.5""", 0),
    "tilt-nan": ("tilt", """
        def tilt_on_grid(p, label, w, grid):
            return np.nan * grid, np.nan
        def gap(p, label, w, u):
            return np.nan * u""", 0),
    # Problem 2
    "draws-of-the-class": ("draws", [("w * p.log_posterior(x, label)]", "0 * p.log_posterior(x, label)]")], 5),
    "draws-of-the-whole-law": ("draws", [("p.given(label).sample", "p.sample")], 5),
    "draws-one-plus-w": ("draws", [("w * p.log_posterior(x, label)]", "(1 + w) * p.log_posterior(x, label)]")], None),
    "draws-too-few": ("draws", [("while have < n:", "while have == 0:")], 5),
    "draws-global-seed": ("draws", [("kept, have = [], 0", "kept, have, rng = [], 0, np.random.default_rng(0)")], 7),
    "draws-other-chance": ("draws", [("np.log(rng.random(len(x)))", "np.log(np.random.default_rng().random(len(x)))")], 7),
    "weights-without-the-class": ("draws", [("logs = p.given(label).log_prob(x) + w", "logs = w")], 4),
    "weights-times-the-source": ("draws", [("- log_source", "+ log_source")], 4),
    "weights-not-normalised": ("draws", [("weights = weights / weights.sum()", "pass")], 4),
    "weights-without-the-shift": ("draws", [("np.exp(logs - logs.max())", "np.exp(logs)")], 7),
    "size-without-squares": ("draws", [("1 / np.sum(weights**2)", "1 / np.sum(weights)")], 6),
    "draws-the-package-does-it": ("draws", """
        from guidance import tilt
        def draw_tilt(p, label, w, n, rng):
            return tilt.Tilted(p, label, w).sample(n, rng)
        def weigh(p, label, w, x, log_source):
            logs = tilt.Tilted(p, label, w).log_prob(x) - log_source
            weights = np.exp(logs - logs.max())
            return weights / weights.sum(), tilt.effective_size(logs)""", 0),
    "draws-zeros": ("draws", """
        def draw_tilt(p, label, w, n, rng):
            return np.zeros((n, p.d))
        def weigh(p, label, w, x, log_source):
            return np.full(len(x), 1 / len(x)), float(len(x))""", 0),
    # Problem 3
    "level-from-the-left": ("edge", [("(G(z2) - G(z1))", "(1 - (G(z2) - G(z1)))")], 0),
    "level-without-sigma": ("edge", [("sigma / alpha / (b - a)", "1 / alpha / (b - a)")], 0),
    "level-ends-exchanged": ("edge", [("(G(z2) - G(z1))", "(G(z1) - G(z2))")], 0),
    "level-one-minus": ("edge", """
        from scipy.special import ndtr
        def missing_level(x, t, a, b):
            v = a + (b - a) * (np.arange(4000) + 0.5) / 4000
            return 1 - ndtr((x[:, None] - process.alpha(t) * v) / process.sigma(t)).mean(1)
        def edge_distance(xi, w, a, b):
            boxes = UniformMixture([[a], [-b]], [[b], [-a]], labels=[1, 0])
            times = process.times(100, T=10.0, t_min=0.05, spacing="angle")
            x = sample(cfg(boxes, 1, w, process), process, xi[:, None], times, "rk4", progress=False)[:, 0]
            return (b - a) * missing_level(x, 0.05, a, b)""", 7),  # at 1e-8 nearly one still has enough digits for 1%
    "edge-one-plus-w": ("edge", [("cfg(boxes, 1, w, process)", "cfg(boxes, 1, 1 + w, process)")], 3),
    "edge-to-the-left": ("edge", [("cfg(boxes, 1, w, process)", "cfg(boxes, 0, w, process)")], 3),
    "edge-at-the-stop": ("edge", [("return (b - a) * missing_level(x, 0.05, a, b)", "return b - x / process.alpha(0.05)")], 3),
    "edge-share-not-distance": ("edge", [("return (b - a) * missing", "return missing")], 3),
    "edge-level-of-another-time": ("edge", [("missing_level(x, 0.05, a, b)", "missing_level(x, 0.1, a, b)")], 3),
    "edge-the-package-does-it": ("edge", [("x = sample(cfg(boxes, 1, w, process), process, xi[:, None], times, \"rk4\", "
                                           "progress=False)[:, 0]", "from guidance import exact\n"
                                           "    x = exact.FlowMap(boxes, 1, w, t_min=0.05).map(xi)")], 3),
    "edge-zeros": ("edge", """
        def missing_level(x, t, a, b):
            return 0 * x
        def edge_distance(xi, w, a, b):
            return 0 * xi""", 0),
    "edge-nan": ("edge", """
        def missing_level(x, t, a, b):
            return np.nan * x
        def edge_distance(xi, w, a, b):
            return np.nan * xi""", 0),
    # Problem 4
    "numbers-of-last-year": ("prediction", "worst_plain, worst_guided, critical, distances = "
                                           "0, 2, [16.9, np.inf, 97.3], [1.4, 0.02, 0.2]", 0),
    "difference-of-the-wrong-sign": ("prediction", [("delta_c - delta_u", "delta_u - delta_c")], 0),
    "critical-negative": ("prediction", [("np.where(difference > 0, (1 - delta_c) / np.abs(difference), np.inf)",
                                          "(1 - delta_c) / difference")], 3),
    "critical-of-one-plus-w": ("prediction", [("(1 - delta_c) / np.abs", "(delta_u - 2 * delta_c + 1) / np.abs")], 3),
    "tau-the-other-way": ("prediction", [("stop / 0.5", "0.5 / stop")], 1),
    "distance-without-guidance": ("prediction", [("- strong * difference", "")], 1),
    "prediction-zeros": ("prediction", "worst_plain, worst_guided, critical, distances = 0, 0, np.zeros(3), np.zeros(3)", 0),
}

OTHER = {  # the same by other means: loops, sums, solvers and blocks
    "ps3-tilt": '''
from scipy.integrate import simpson, solve_ivp
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

def tilt_on_grid(p, label, w, grid):
    x = grid.reshape(-1, 1)
    prior = sum(p.weights[p.labels == label])
    logs = (1 + w) * p.log_posterior(x, label) + p.log_prob(x) - np.log(prior)
    widths = np.empty(len(grid))
    widths[0], widths[-1] = (grid[1] - grid[0]) / 2, (grid[-1] - grid[-2]) / 2
    widths[1:-1] = (grid[2:] - grid[:-2]) / 2
    log_kept = float(logsumexp(logs, b=widths))
    return logs - log_kept, log_kept

def gap(p, label, w, u):
    score = cfg(p, label, w, process)
    def velocity(s, x):  # s = T - t runs up
        return x + score(x[:, None], 10.0 - s)[:, 0]
    flow = solve_ivp(velocity, (0, 10.0), norm.ppf(u), "DOP853", rtol=1e-8, atol=1e-8).y[:, -1]
    grid = np.linspace(-16, 16, 4001)
    density = np.exp(tilt_on_grid(p, label, w, grid)[0])
    found = []
    for level in u:
        def below(z):
            fine = np.linspace(-16, z, 3001)
            return simpson(np.interp(fine, grid, density), x=fine) - level
        found.append(brentq(below, -12, 12, xtol=1e-6))
    return [float(a - b) for a, b in zip(flow, found)]
''',
    "ps3-draws": '''
def draw_tilt(p, label, w, n, rng):
    rows = []
    while len(rows) < n:
        points = p.given(label).sample(4 * n, rng)[0]
        keep = p.posterior(points, label)**w
        rows += [point for point, chance, coin in zip(points, keep, rng.uniform(size=4 * n)) if coin < chance]
    return np.array(rows[:n])

def weigh(p, label, w, x, log_source):
    from scipy.special import logsumexp
    logs = (1 + w) * p.given(label).log_prob(x) - w * p.log_prob(x) - log_source
    total = logsumexp(logs)
    return [float(v) for v in np.exp(logs - total)], float(np.exp(2 * total - logsumexp(2 * logs)))
''',
    "ps3-edge": '''
from scipy.special import log_ndtr

def missing_level(x, t, a, b):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    out = []
    for one in x:
        v = (a + b) / 2 + (b - a) / 2 * nodes
        out.append(np.sum(weights / 2 * np.exp(log_ndtr((process.alpha(t) * v - one) / process.sigma(t)))))
    return out

def edge_distance(xi, w, a, b):
    boxes = UniformMixture([[a], [-b]], [[b], [-a]], labels=[1, 0])
    inside = boxes.given(1)
    def velocity(t, x):
        law = process.alpha(t), process.sigma(t)
        cond, whole = inside.noised(*law).score(x[:, None])[:, 0], boxes.noised(*law).score(x[:, None])[:, 0]
        return -x - cond - w * (cond - whole)
    x = solve_ivp(velocity, (10.0, 0.04), np.array(xi), "RK45", rtol=1e-7, atol=1e-9).y[:, -1]
    return (b - a) * np.array(missing_level(x, 0.04, a, b))
''',
    "ps3-prediction": '''
pull = [1 - c - strong * (c - u) for c, u in zip(delta_c, delta_u)]
distances = [float(f"{Y * np.exp(rho * np.log(2 * stop)):.3g}") for rho in pull]
critical = [round((1 - c) / (c - u), 1) if c > u else np.inf for c, u in zip(delta_c, delta_u)]
worst_plain, worst_guided = list(delta_c).index(max(delta_c)), distances.index(max(distances))
''',
}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_has_full_marks(marked, seed):
    assert marked("ps3", seed) == FULL


def test_a_blank_notebook_has_none(marked):
    assert set(marked("ps3", 6, blank=True).values()) == {0}


@pytest.mark.parametrize("seed", (4,))
def test_another_right_solution_has_full_marks(marked, seed):
    assert marked("ps3", seed, OTHER) == FULL


def mistakes():
    """The mistakes in groups, one of each problem, so that one submission makes several."""
    queues = {problem: [name for name in WRONG if WRONG[name][0] == problem] for problem in CELLS}
    for index in range(max(map(len, queues.values()))):
        yield [queue[index] for queue in queues.values() if index < len(queue)]


@pytest.mark.parametrize("names", list(mistakes()), ids=" ".join)
def test_a_mistake_costs_what_it_should_and_nothing_elsewhere(marked, names):
    changes, expected = {}, dict(FULL)
    for problem, change, left in (WRONG[name] for name in names):
        lines = change.strip("\n").split("\n        ") if isinstance(change, str) else None
        changes[CELLS[problem]] = "\n".join(lines).strip() if lines else change
        expected[f"ps3-check-{problem}"] = left
    points = marked("ps3", 3, changes)
    for check, left in expected.items():
        if left is None:
            assert points[check] < FULL[check]
        else:
            assert points[check] == left, f"{check} of {names}"
