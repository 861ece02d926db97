"""Problem set 1: the reference gets everything, nothing gets nothing, and each mistake costs what it should."""
import pytest

FULL = {"ps1-check-ddim": 9, "ps1-check-guided": 8, "ps1-check-ddpm": 8, "ps1-check-prediction": 4}
SEEDS = (0, 1, 2026, 987654321)

WRONG = {  # name: (cells of the reference, what is replaced in them), the points that are left in the checks it touches
    "score-of-the-wrong-sign": ({"ps1-ddim-step": [("* slope) /", "* -slope) /")]}, {"ps1-check-ddim": 2}),
    "times-exchanged": ({"ps1-ddim-step": [("process.alpha(s) *", "process.alpha(t) *"), ("process.sigma(s) *", "process.sigma(t) *")]},
                        {"ps1-check-ddim": 2}),
    "score-at-the-end-of-the-step": ({"ps1-ddim-step": [("score(x, t)", "score(x, s)")]}, {"ps1-check-ddim": 1}),
    "score-asked-twice": ({"ps1-ddim-step": [("slope = score(x, t)", "slope = score(x, t); score(x, t)")]}, {"ps1-check-ddim": 7}),
    "one-plus-w": ({"ps1-guided-score": [("+ w *", "+ (1 + w) *")]}, {"ps1-check-guided": 0}),
    "w-of-the-other-convention": ({"ps1-guided-score": [("conditional + w *", "unconditional + w *")]}, {"ps1-check-guided": 0}),
    "law-without-noise": ({"ps1-guided-score": [(".noised(alpha, sigma)", "")]}, {"ps1-check-guided": 0}),
    "missing-square-root": ({"ps1-ddpm-step": [("np.sqrt(variance)", "variance")]}, {"ps1-check-ddpm": 5}),
    "global-seed": ({"ps1-ddpm-step": [("rng.standard_normal(x.shape)", "np.random.default_rng(0).standard_normal(x.shape)")]},
                    {"ps1-check-ddpm": 6}),
    "one-noise-for-all": ({"ps1-ddpm-step": [("rng.standard_normal(x.shape)", "rng.standard_normal(x.shape[1:])")]},
                          {"ps1-check-ddpm": 2}),
    "numbers-of-last-year": ({"ps1-prediction": "means, weights = np.array([[0.3, -1.1], [0, 2.2], [1, -2]]), np.array([.4, .5, .3])\n"
        "terms = (means[:, 1] - means[:, 0]) * (1 - weights)\ndirection, largest = 'depends on the pair', 9"}, {"ps1-check-prediction": None}),
    "weight-of-the-wrong-class": ({"ps1-prediction": [("(1 - weights)", "weights")]}, {"ps1-check-prediction": None}),
    "the-method-does-it": ({"ps1-guided-score": "def guided_score(p, label, w, process):\n    return lambda x, t: p.noised("
                           "process.alpha(t), process.sigma(t)).guided_score(x, label, w)"}, {"ps1-check-guided": 0}),
    "the-source-does-it": ({"ps1-guided-score": "import importlib, guidance.guide\nimportlib.reload(guidance.guide)\n"
                            "guided_score = guidance.guide.cfg"}, {"ps1-check-guided": 0}),
    "the-package-does-it": ({"ps1-guided-score": "from guidance import cfg\n\ndef guided_score(p, label, w, process):\n"
                                                 "    return cfg(p, label, w, process)"}, {"ps1-check-guided": 0}),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_has_full_marks_and_a_blank_notebook_none(marked, seed):
    assert marked("ps1", seed) == FULL
    assert set(marked("ps1", seed, blank=True).values()) == {0}


def test_single_precision_and_rounded_numbers_are_right(marked):
    assert marked("ps1", 5, {
        "ps1-ddim-step": [("slope = score(x, t)", "x = x.astype(np.float32)\n    slope = score(x, t).astype(np.float32)")],
        "ps1-guided-score": [("return conditional + w * (conditional - unconditional)",
                              "return ((1 + w) * conditional.astype(np.float32) - w * unconditional.astype(np.float32))")],
        "ps1-prediction": [("* (1 - weights)", "* (1 - weights)\nterms = terms.round(3)")],
    }) == FULL


@pytest.mark.parametrize("seed", SEEDS)
def test_the_answers_of_another_course_fail(marked, seed):
    from homework import release

    (theirs,) = release.public_cells(release.student_version("ps1", seed + 1))
    answers = next(cell.source for cell in release.solution_version("ps1", seed + 1).cells if cell.id == "ps1-prediction")
    assert marked("ps1", seed, {"ps1-prediction": theirs + "\n" + answers})["ps1-check-prediction"] <= 2


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_costs_what_it_should(marked, mistake):
    changes, left = WRONG[mistake]
    points = marked("ps1", 3, changes)
    for check, full in FULL.items():
        if check not in left:
            assert points[check] == full, "a mistake in one problem costs nothing in another"
        elif left[check] is None:
            assert points[check] < full
        else:
            assert points[check] == left[check]
