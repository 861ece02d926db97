"""Problem set 4: the reference gets everything, nothing gets nothing, and each mistake costs what it should."""
import numpy as np
import pytest

from homework import grade, release

FULL = {"ps4-check-drift": 7, "ps4-check-path": 6, "ps4-check-meter": 5, "ps4-check-judge": 4, "ps4-check-losers": 3,
        "ps4-check-prediction": 4}
SEEDS = (0, 1, 2026, 987654321)
NO_PREDICTION = {"ps4-prediction": "baselines = most_losers = shares = ..."}

# Each student makes one mistake a problem: name: (problem: what is replaced in the reference, or a cell of their own), the points that
# are left. The prediction, which the path and the losers enter, has students of its own below.
STUDENTS = {
    "signs-and-directions": ({
        "drift": [("rate = -(f", "rate = (f")],  # with t instead of against it
        "path": [("x + (t - s) * (x", "x - (t - s) * (x")],  # from data to noise
        "meter": [("total[k] + (delta", "total[k] - (delta")],  # unconditional over conditional
        "judge": [("mean + half <", "mean - half >"), ("if mean - half > baseline else \"open\"",
                                                       "if mean + half < baseline else \"open\"")],  # lower for higher
        "losers": [("after < before", "after > before")],  # winners
    }, {"drift": 4, "path": 2, "meter": 2, "judge": 2, "losers": 2}),
    "strengths-and-baselines": ({
        "drift": [("2 * score(x, t)", "score(x, t)")],  # the drift of the flow
        "path": [("c + w *", "c + (1 + w) *")],
        "meter": [("rest + delta / 2", "rest")],  # the half of the energy is missing
        "judge": [("1 / prior", "prior")],
        "losers": [("after < before", "after <= before")],  # equal pairs counted
    }, {"drift": 3, "path": 4, "meter": 2, "judge": 2, "losers": 2}),
    "roots-and-sums": ({
        "drift": [(" + (right - 2 * here + left) / h**2", "")],  # without Ito's term
        "path": [("np.sqrt(2 * (t - s))", "2 * (t - s)")],
        "meter": [("total[k] + (delta", "(delta")],  # steps not added up
        "judge": [(" / np.sqrt(len(q))", "")],  # a spread for a standard error
        "losers": [("gap.max() / len(u)", "np.mean(after < before)")],  # the share for the floor
    }, {"drift": 3, "path": 2, "meter": 3, "judge": 1, "losers": 1}),
    "one-too-few": ({
        "drift": [("range(x.shape[1])", "range(1)")],  # the first coordinate only
        "path": [("cond(x, t)", "cond(x, s)")],  # both scores at the end of the step
        "meter": [(".sum(1)", "[:, 0]")],  # the first coordinate only
        "judge": [("mean, half = inverse.mean()", "mean, half = 1 / q.mean()")],
        "losers": [("gap.max()", "-gap.min()")],  # the gap of the other sign
    }, {"drift": 1, "path": 2, "meter": 4, "judge": 0, "losers": 1}),
    "off-by-one": ({
        "drift": [("x + 2 * score(x, t)", "-x + 2 * score(x, t)")],  # the forward drift with a score
        "path": [("* z", "* noise[0]")],  # the noise of the first step in all
        "meter": [("enumerate(zip(times[:-1], times[1:]))", "enumerate(zip(times[1:], times[:-1]))")],  # time turned round
        "judge": [("1.96 *", "1.64 *")],  # 90%
        "losers": [("np.sort(before), u", "before, u")],  # not sorted
    }, {"drift": 3, "path": 4, "meter": 2, "judge": 3, "losers": 1}),
    "noise-of-their-own": ({
        "drift": [("h, here = 1e-3", "h, here = 1e-8")],  # second differences of rounding errors
        "path": [("* z", "* np.random.default_rng(0).standard_normal(z.shape)")],
        "meter": [("path[k + 1] - x -", "np.random.default_rng(0).standard_normal(x.shape) - 0 *")],
        "judge": [("inverse = 1 / q", "inverse = np.random.default_rng(0).choice(1 / q, len(q))")],
        "losers": [("np.mean(after < before)", "np.mean(after < np.random.default_rng(0).permutation(before))")],
    }, {"drift": None, "path": 0, "meter": 0, "judge": None, "losers": 2}),
    "half-of-it": ({
        "drift": [("rate = -(f(x, t + h) - f(x, t - h)) / (2 * h)", "rate = 0.0")],  # without the clock
        "meter": [("(2 * length)", "length")],  # the variance is half of what it is
        "losers": [("u = np.sort(after)\n", "u = np.sort(before)\n"),  # thresholds from `before` only
                   ("np.searchsorted(u, u, \"right\") - np.searchsorted(np.sort(before), u,",
                    "np.searchsorted(np.sort(after), u, \"right\") - np.searchsorted(u, u,")],
    }, {"drift": 4, "meter": 2, "losers": 1}),
    "on-a-grid": ({
        "meter": [("    return total", "    return total.mean(1, keepdims=True) + 0 * total")],  # one reading for all points
        "losers": [("u = np.sort(after)\n", "u = np.linspace(0, 1, 1001)\n"),
                   ("np.searchsorted(u, u, \"right\")", "np.searchsorted(np.sort(after), u, \"right\")"), ("len(u)", "len(after)")],
    }, {"meter": 2, "losers": 1}),
    "constants": ({
        "drift": "def drift(f, score, x, t):\n    return np.zeros(len(x))",
        "path": "def guided_path(cond, uncond, w, x, times, noise):\n    return np.full((len(times), *x.shape), np.nan)",
        "meter": "def meter(cond, uncond, path, times):\n    return np.zeros(path.shape[:2])",
        "judge": "def judge(q, prior):\n    return 1.0, 0.9, 1.1, 'open'",
        "losers": "def losers(before, after):\n    return 0.0, 0.0",
    }, {"drift": 0, "path": 0, "meter": 0, "judge": 0, "losers": 0}),
    "identities-and-guesses": ({
        "drift": "def drift(f, score, x, t):\n    return f(x, t)",
        "path": "def guided_path(cond, uncond, w, x, times, noise):\n    return np.repeat(x[None], len(times), 0)",
        "meter": "def meter(cond, uncond, path, times):\n    return path.sum(2)",
        "judge": "def judge(q, prior):\n    return q.mean(), q.min(), q.max(), 'lower'",
        "losers": "def losers(before, after):\n    return np.nan, np.nan",
    }, {"drift": 0, "path": 0, "meter": 0, "judge": 0, "losers": 0}),
    "the-package-does-it": ({
        "path": "import guidance\n\ndef guided_path(cond, uncond, w, x, times, noise):\n"
                "    return guidance.sample(lambda x, t: cond(x, t) + w * (cond(x, t) - uncond(x, t)), process, x, times,\n"
                "                           'euler-maruyama', noise=noise, trajectory=True)",
        "meter": "from guidance import samplers, tracker\n\ndef meter(cond, uncond, path, times):\n"
                 "    samplers.STEPS['euler-maruyama']\n"
                 "    return tracker.tracked(cond, uncond, 0.0, process, path[0], times, np.random.default_rng(0)).tracker",
        "judge": "from guidance import metrics\n\ndef judge(q, prior):\n    return *metrics.mean_interval(1 / q), 'lower'",
    }, {"path": 0, "meter": 0, "judge": 0}),
}

PREDICTIONS = {
    "sampled-baselines-and-other-noise": ([("1 / world(k).prior(0)", "np.mean(1 / run_world(k, 500)[0])"),
                                           ("x, times, noise)[-1]", "x, times, rng.standard_normal((200, n, 1)))[-1]")], 1),
    "twins-exchanged": ([("for w in (0.0, 1.0)]", "for w in (1.0, 0.0)]")], 1),
}

# Other numerics, other orders of the operations, loops; the same answers.
ANOTHER_WAY = {
    "ps4-drift": """
def drift(f, score, x, t):
    n, d = x.shape
    rates = np.empty(n)
    for i in range(n):
        h, k = 2e-3, 5e-4
        steps = np.concatenate([h * np.eye(d), -h * np.eye(d), 2 * h * np.eye(d), -2 * h * np.eye(d), np.zeros((1, d))])
        values = f(x[i] + steps, t)
        near, far = (values[:d], values[d:2 * d]), (values[2 * d:3 * d], values[3 * d:4 * d])
        slope = (8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * h)
        second = (16 * (near[0] + near[1]) - (far[0] + far[1]) - 30 * values[-1]) / (12 * h**2)
        s = score(x[i:i + 1], t)[0]
        clock = (f(x[i:i + 1], t + k)[0] - f(x[i:i + 1], t - k)[0]) / (2 * k)
        rates[i] = second.sum() + x[i] @ slope + 2 * s @ slope - clock
    return rates
""",
    "ps4-path": """
def guided_path(cond, uncond, w, x, times, noise):
    path = np.empty((len(times), *x.shape))
    path[0] = x
    for k in range(len(times) - 1):
        step = times[k] - times[k + 1]
        here = path[k].copy()
        score = (1 + w) * cond(here, float(times[k])) - w * uncond(here, float(times[k]))
        path[k + 1] = (1 + step) * here + 2 * step * score + noise[k] * (2 * step)**0.5
    return path
""",
    "ps4-meter": """
from scipy.stats import norm

def meter(cond, uncond, path, times):
    rows = [np.zeros(path.shape[1])]
    for k in range(len(path) - 1):
        x, step = path[k], times[k] - times[k + 1]
        logs = [norm.logpdf(path[k + 1], x + step * (x + 2 * score(x, times[k])), np.sqrt(2 * step)).sum(axis=-1)
                for score in (cond, uncond)]
        rows.append(logs[0] - logs[1])
    return list(np.cumsum(rows, axis=0))
""",
    "ps4-judge": """
from scipy import stats

def judge(q, prior):
    values = [1 / one for one in q]
    low, high = stats.t.interval(0.95, len(q) - 1, np.mean(values), stats.sem(values))
    if prior * high < 1:
        return float(np.mean(values)), low, high, "lower"
    return float(np.mean(values)), low, high, "higher" if prior * low > 1 else "open"
""",
    "ps4-losers": """
def losers(before, after):
    count = sum(int(a < b) for a, b in zip(after, before))
    gaps = [(after <= u).mean() - (before <= u).mean() for u in np.concatenate([after, before])]
    return count / len(after), max(0.0, *gaps)
""",
    "ps4-prediction": """
shares, baselines = [], []
for k in range(3):
    p, rng, times = world(k), np.random.default_rng([5, k]), 10 * (1 - np.arange(201) / 200)**2
    laws = {t: (p.given(0).noised(process.alpha(t), process.sigma(t)), p.noised(process.alpha(t), process.sigma(t))) for t in times}
    x = rng.standard_normal((5000, 1))
    noise = rng.standard_normal((200, 5000, 1))
    fields = lambda x, t: laws[t][0].score(x), lambda x, t: laws[t][1].score(x)
    ends = [p.posterior(guided_path(*fields, w, x, times, noise)[-1], 0) for w in (0, 1)]
    shares.append(losers(*ends)[0])
    baselines.append(1 / sum(w for w, c in zip(weights[k], labels[k]) if c == 0))
most_losers = float(np.argmax(shares))
""",
}


def cells(changes):
    return {f"ps4-{problem}": change for problem, change in changes.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_has_full_marks(marked, seed):
    assert marked("ps4", seed) == FULL


def test_a_blank_notebook_has_none(marked):
    assert set(marked("ps4", 0, blank=True).values()) == {0}


def test_another_right_solution_has_full_marks(marked):
    assert marked("ps4", 4, ANOTHER_WAY, limits=grade.Limits()) == FULL  # its loops ask the grader point by point


@pytest.mark.parametrize("student", STUDENTS)
def test_a_mistake_costs_what_it_should(marked, student):
    changes, left = STUDENTS[student]
    points = marked("ps4", 3, cells(changes) | NO_PREDICTION)
    for check, full in FULL.items():
        problem = check.removeprefix("ps4-check-")
        if problem == "prediction":
            assert points[check] == 0
        elif problem not in left:
            assert points[check] == full, f"{problem}: a mistake in one problem costs nothing in another"
        elif left[problem] is None:
            assert points[check] < full, problem
        else:
            assert points[check] == left[problem], problem


@pytest.mark.parametrize("mistake", PREDICTIONS)
def test_a_wrong_prediction_costs_what_it_should(marked, mistake):
    change, left = PREDICTIONS[mistake]
    assert marked("ps4", 3, {"ps4-prediction": change}) == FULL | {"ps4-check-prediction": left}


def test_the_numbers_of_last_year_are_wrong(marked):
    names = grade.namespace(release.read_source("ps4"), release.public_cells(release.student_version("ps4", 1)))
    worlds = names["build_worlds"](**names["public"])
    baselines = [1 / p.prior(0) for p in worlds]
    shares = [names["share_of_losers"](p, np.random.default_rng(0), n=1000) for p in worlds]
    answer = f"baselines, most_losers, shares = {baselines}, {int(np.argmax(shares))}, {np.array(shares).tolist()}"
    assert marked("ps4", 5, {"ps4-prediction": answer}) == FULL | {"ps4-check-prediction": 0}
