"""The ledger: what holds, what fails, and what is recorded."""
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guidance import ledger

numbers = st.floats(-1e6, 1e6)
TEXTS = {"statement": "A statement.", "instance": "an instance"}


def check(left, relation, right, tolerance=0.0, kind="claim", name="a-claim", **more):
    more = TEXTS | {"source": "ours", "of": None if kind == "claim" else "another"} | more
    return ledger.check(kind, name, left=left, relation=relation, right=right, tolerance=tolerance, **more)


@pytest.mark.parametrize("left, relation, right, tolerance, holds", [
    (1, "==", 1, 0, True), (1, "==", 1.5, 0.5, True), (1, "==", 1.5, 0.25, False), (1.5, "==", 1, 0.25, False),
    (1, "<=", 1, 0, True), (1.5, "<=", 1, 0.5, True), (1.5, "<=", 1, 0.25, False), (0, "<=", 1, 0, True),
    (1, ">=", 1, 0, True), (1, ">=", 1.5, 0.5, True), (1, ">=", 1.5, 0.25, False), (2, ">=", 1, 0, True),
    (1, "<", 1, 0, False), (1, "<", 2, 0.5, True), (1, "<", 1.5, 0.5, False), (2, "<", 1, 0, False),
    (1, ">", 1, 0, False), (2, ">", 1, 0.5, True), (1.5, ">", 1, 0.5, False), (1, ">", 2, 0, False),
])
def test_relations_and_tolerances(left, relation, right, tolerance, holds):
    kind = "claim" if holds else "counterexample"
    record = check(left, relation, right, tolerance, kind)
    assert record.holds == holds and record.passed
    with pytest.raises(AssertionError, match="should fail and holds" if holds else "should hold and does not"):
        check(left, relation, right, tolerance, "counterexample" if holds else "claim")


@given(numbers, numbers, st.floats(0, 10))
def test_a_claim_and_its_counterexample_never_both_pass(left, right, tolerance):
    for relation in ("==", "<=", ">=", "<", ">"):
        passed = 0
        for kind in ("claim", "counterexample"):
            try:
                passed += check(left, relation, right, tolerance, kind).passed
            except AssertionError:
                pass
        assert passed == 1


def test_the_worst_entry_is_recorded():
    record = check([[1.0, 5.0], [2.0, 3.0]], "<=", 6.0)
    assert (record.left, record.right, record.entries) == (5.0, 6.0, 4)
    record = check([1.0, 9.0], "<=", [2.0, 6.0], kind="counterexample")
    assert (record.left, record.right) == (9.0, 6.0)
    with pytest.raises(AssertionError, match="left = 9.0, right = 6.0"):
        check([1.0, 9.0], "<=", [2.0, 6.0])


@pytest.mark.parametrize("kind", ["claim", "counterexample"])
@pytest.mark.parametrize("left, right", [(math.nan, 1), (1, math.nan), ([1, math.nan], 2)])
def test_nan_never_passes(kind, left, right):
    with pytest.raises(AssertionError, match="NaN"):
        check(left, "<=", right, 1e9, kind)


@pytest.mark.parametrize("arguments, complaint", [
    ({"left": []}, "no numbers"),
    ({"left": math.inf}, "finite"),
    ({"left": "one"}, "real numbers"),
    ({"left": None}, "NaN|real numbers"),
    ({"left": [1, 2], "right": [1, 2, 3]}, "broadcast"),
    ({"relation": "!="}, "relation"),
    ({"tolerance": -1}, "tolerance"),
    ({"tolerance": math.nan}, "tolerance"),
    ({"name": "Not A Name"}, "name"),
    ({"name": ""}, "name"),
    ({"statement": " "}, "statement"),
    ({"source": None}, "source"),
    ({"instance": ""}, "instance"),
    ({"breaks": "No"}, "breaks"),
    ({"kind": "counterexample", "of": None}, "of"),
])
def test_malformed_claims_are_refused(arguments, complaint):
    with pytest.raises((ValueError, AssertionError), match=complaint):
        check(**{"left": 1, "relation": "<=", "right": 2} | arguments)


def test_the_record_survives_json_and_shows_both_numbers():
    bundle = check(1.0, "<=", 2.0, 0.5, statement="If $a < b$ & more.")._repr_mimebundle_()
    record = ledger.Record(**json.loads(json.dumps(bundle[ledger.MIME])))
    assert record == check(1.0, "<=", 2.0, 0.5, statement="If $a < b$ & more.")
    assert "1 ≤ 2" in bundle["text/plain"] and "holds" in bundle["text/plain"]
    page = bundle["text/html"]
    assert 'id="claim-a-claim"' in page and r"\(a &lt; b\)" in page and "&amp; more" in page and "tolerance 0.5" in page


def test_numbers_that_differ_are_shown_as_different():
    assert check(1 + 1e-9, ">", 1.0).numbers == "1.000000001 > 1"
    assert check(1 + 1e-15, ">", 1.0).numbers == "1.0000000000000011 > 1"
    assert check(1 + 1e-9, "==", 1.0, 1e-8).numbers == "1 = 1"
    assert check(1.0, "==", 2.0, kind="counterexample").numbers == "1 ≠ 2"


def test_claims_show_themselves(capsys):
    common = TEXTS | {"left": np.float32(1), "relation": "<=", "right": np.arange(1, 3)}
    assert ledger.claim("shown", source="ours", **common) is None
    assert ledger.counterexample("also-shown", of="shown", **common | {"left": 3}) is None
    shown = capsys.readouterr().out
    assert "shown" in shown and "fails, as it should" in shown


@pytest.mark.parametrize("left, right", [(math.inf, 1.0), (1.0, math.inf), (1.0, [2.0, math.inf])])
def test_an_infinite_number_is_no_claim(left, right):
    with pytest.raises(ValueError, match="finite"):
        check(left, "<=", right)


@pytest.mark.parametrize("tolerance", [math.inf, math.nan, -1.0])
def test_a_tolerance_that_lets_everything_pass_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        check(1.0, "==", 2.0, tolerance)


def test_the_verdict_line_says_what_is_true_of_the_numbers():
    assert "1 ≤ 2" in check(1.0, "<=", 2.0).numbers
    assert "2 > 1" in check(2.0, "<=", 1.0, kind="counterexample").numbers
    assert "1 < 2" in check(1.0, ">=", 2.0, kind="counterexample").numbers
    assert "3 ≠ 1" in check(3.0, "==", 1.0, kind="counterexample").numbers
    assert check(1.0 + 1e-15, "<=", 1.0, 1e-12).numbers == "1 ≤ 1"
    text = repr(check([1.0, 1.0], "==", [1.0, 1.25], 0.5))
    assert "difference 0.25" in text and "worst of 2" in text


def test_a_claim_displays_itself_in_a_notebook(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    ledger.claim("a-claim", statement="A statement.", source="ours", instance="an instance", left=1, relation="==", right=1)
    assert [record.name for record in shown] == ["a-claim"]
