"""
scikit-learn and XGBoost's Python package as a second opinion of what the engine learns and how it measures itself (S3-26, S3-55, S4-41, S4-42): the same data through both, on scikit-learn's bundled sets.
The engine's own code runs in learn_tool, which is built with the unit tests. What it predicts here comes from a model that was written to a file and read back.
"""
import json
import math
import subprocess

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (accuracy_score, confusion_matrix, f1_score, mean_absolute_error, mean_squared_error, precision_score, r2_score, recall_score, roc_auc_score,
                             roc_curve)
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

from lib.gate import BINARY, ROOT, clean_env

KINDS = [BINARY.parent, ROOT / "build/asan", ROOT / "build/tsan"]
TOOL = next((d / "learn_tool" for d in KINDS if (d / "learn_tool").exists()), None)
pytestmark = pytest.mark.skipif(TOOL is None, reason="learn_tool is not built: sh scripts/build.sh asan")
SEED = 7
PYTHON = {"xgboost": XGBClassifier, "random_forest": XGBRFClassifier}
OF_NUMBERS = {"xgboost": XGBRegressor, "random_forest": XGBRFRegressor}


def write(path, columns):
    """columns: name -> list; None and NaN are nulls."""
    def cell(v):
        return v if isinstance(v, str) else "" if v is None or math.isnan(v) else repr(float(v))
    rows = zip(*columns.values())
    path.write_text("".join(",".join(r) + "\n" for r in [list(columns)] + [[cell(v) for v in row] for row in rows]))


def learn(folder, train, future=None, **plan):
    """train, future: as for write. The report of a training, and with future its predictions as an array."""
    write(folder / "train.csv", train)
    args = [folder, json.dumps({"seed": SEED, **plan}), folder / "train.csv"]
    if future is not None:
        write(folder / "future.csv", future)
        args.append(folder / "future.csv")
    p = subprocess.run([TOOL, *map(str, args)], capture_output=True, text=True, timeout=120, env=clean_env())
    assert p.returncode == 0 and not p.stderr, p.stderr
    answer = json.loads(p.stdout)
    assert "error" not in answer, answer
    return answer, np.array(answer.get("predictions", []))


def named(x, y=None):
    columns = {f"c{i}": x[:, i] for i in range(x.shape[1])}
    return columns if y is None else {**columns, "y": y}


def with_texts(columns, name):
    """One of the columns as three texts, by size; and the same as three columns of 0 and 1."""
    low, high = np.quantile(columns[name], [0.3, 0.7])
    words = ["low" if v < low else "high" if v > high else "middle" for v in columns[name]]
    rest = {k: v for k, v in columns.items() if k != name}
    return {**rest, "size": words}, {**rest, **{w: np.array([float(x == w) for x in words]) for w in ["high", "low", "middle"]}}


def matrix(columns):
    return np.column_stack(list(columns.values()))


def part(columns, mask):
    return {k: np.array(v, dtype=object if isinstance(v[0], str) else float)[mask] for k, v in columns.items()}


def close(a, b, within):
    worst = np.abs(np.asarray(a) - np.asarray(b)).max()
    assert worst <= within, worst


def shares(python, columns, texts):
    """What XGBoost's Python package says of the features, as shares; of the columns that are one text each, together."""
    want = {}
    for k, v in python.get_booster().get_score(importance_type="total_gain").items():
        name = columns[int(k[1:])]
        name = texts if name in ("high", "low", "middle") else name
        want[name] = want.get(name, 0) + v
    return {k: v / sum(want.values()) for k, v in want.items()}


@pytest.fixture(scope="module")
def sets():
    cancer, wine = load_breast_cancer(), load_wine()
    return {"cancer": (cancer.data, cancer.target), "wine": (wine.data, (wine.target == 1).astype(int))}


def halves(n):
    return np.arange(n) % 3 != 0


def test_least_squares(tmp_path):
    d = load_diabetes()
    python = LinearRegression().fit(d.data, d.target)
    answer, got = learn(tmp_path, named(d.data, d.target), named(d.data), method="linear_regression")
    close(got, python.predict(d.data), 1e-9)
    assert answer["report"]["metrics"]["r2"] == pytest.approx(r2_score(d.target, python.predict(d.data)), abs=1e-12)
    close([answer["report"]["coefficients"][f"c{i}"] for i in range(10)], python.coef_, 1e-6)
    assert answer["report"]["intercept"] == pytest.approx(python.intercept_, abs=1e-9)


def test_least_squares_of_dependent_columns(tmp_path):
    """Texts as columns of 0 and 1 add up to 1, so the weights are settled by being the smallest only; a text that was not there in training shows them."""
    d = load_diabetes(scaled=False)
    text, hot = with_texts(named(d.data), "c3")
    python = LinearRegression(tol=1e-12).fit(matrix(hot), d.target)
    unknown = {k: list(v) for k, v in text.items()}
    unknown["size"][:5] = ["huge"] * 5
    blank = {k: np.array(v) for k, v in hot.items()}
    for w in ["high", "low", "middle"]:
        blank[w][:5] = 0
    _, got = learn(tmp_path, {**text, "y": d.target}, unknown, method="linear_regression")
    close(got, python.predict(matrix(blank)), 1e-6)


def test_least_squares_of_few_rows(tmp_path):
    d = load_diabetes()
    few = slice(0, 6)
    python = LinearRegression(tol=1e-12).fit(d.data[few], d.target[few])
    _, got = learn(tmp_path, named(d.data[few], d.target[few]), named(d.data), method="linear_regression")
    close(got, python.predict(d.data), 1e-6)


@pytest.mark.parametrize("name", ["cancer", "wine"])
@pytest.mark.parametrize("texts", [False, True])
def test_logistic_regression(tmp_path, sets, name, texts):
    x, y = sets[name]
    m = halves(len(y))
    ours, theirs = with_texts(named(x), "c1") if texts else (named(x), named(x))
    python = make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear")).fit(matrix(part(theirs, m)), y[m])
    _, got = learn(tmp_path, {**part(ours, m), "y": y[m]}, part(ours, ~m), method="logistic_regression")
    want = python.predict_proba(matrix(part(theirs, ~m)))[:, 1]
    close(got, want, 2e-3)
    assert roc_auc_score(y[~m], got) == pytest.approx(roc_auc_score(y[~m], want), abs=1e-3)


@pytest.mark.parametrize("method", PYTHON)
@pytest.mark.parametrize("name,texts,nulls", [("cancer", False, False), ("cancer", True, True), ("wine", True, False)])
def test_trees(tmp_path, sets, method, name, texts, nulls):
    """Not near the Python package's: the same."""
    x, y = sets[name]
    x = x.copy()
    m = halves(len(y))
    if nulls:
        x[np.random.default_rng(1).random(x.shape) < 0.2] = np.nan
        x[:, 1] = sets[name][0][:, 1]
    ours, theirs = with_texts(named(x), "c1") if texts else (named(x), named(x))
    python = PYTHON[method](random_state=SEED, n_jobs=1).fit(matrix(part(theirs, m)), y[m])
    answer, got = learn(tmp_path, {**part(ours, m), "y": y[m]}, part(ours, ~m), method=method)
    want = python.predict_proba(matrix(part(theirs, ~m)))[:, 1]
    close(got, want, 1e-6)
    assert roc_auc_score(y[~m], got) == pytest.approx(roc_auc_score(y[~m], want), abs=1e-3)
    want = shares(python, list(theirs), "size")
    for k, v in answer["report"]["feature_importance"].items():
        assert v == pytest.approx(want.get(k, 0), abs=1e-6), k


def synthetic():
    """A thousand rows: numbers of several sizes, a fifth of them missing, a text, and a target far from 0."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(1000, 5)) * [1, 1e-3, 1e6, 10, 1]
    y = 1e5 + 300 * x[:, 0] + 2e5 * x[:, 1] * (x[:, 3] > 0) + x[:, 2] / 1e4 + 100 * np.abs(x[:, 4]) + rng.normal(size=1000)
    hidden = x.copy()
    hidden[rng.random(x.shape) < 0.2] = np.nan
    hidden[:, 3] = x[:, 3]
    return hidden, y


@pytest.mark.parametrize("method", OF_NUMBERS)
@pytest.mark.parametrize("name", ["diabetes", "diabetes, texts", "synthetic"])
def test_trees_of_numbers(tmp_path, method, name):
    """The same numbers as XGBRegressor's and XGBRFRegressor's, on rows that they have not seen."""
    x, y = synthetic() if name == "synthetic" else load_diabetes(return_X_y=True, scaled=False)
    m = halves(len(y))
    ours, theirs = with_texts(named(x), "c3") if name != "diabetes" else (named(x), named(x))
    python = OF_NUMBERS[method](random_state=SEED, n_jobs=1).fit(matrix(part(theirs, m)), y[m])
    answer, got = learn(tmp_path, {**part(ours, m), "y": y[m]}, part(ours, ~m), method=method)
    want = python.predict(matrix(part(theirs, ~m)))
    assert answer["about"]["task"] == answer["report"]["task"] == "regression" and answer["about"]["classes"] is None
    close(got / want, 1, 1e-6)
    assert np.std(got) > 1 and abs(r2_score(y[~m], got)) > 0.2, "there was something to predict"
    want = shares(python, list(theirs), "size")
    assert set(answer["report"]["feature_importance"]) == set(ours) >= set(want)
    for k, v in answer["report"]["feature_importance"].items():
        assert v == pytest.approx(want.get(k, 0), abs=1e-6), k


@pytest.mark.parametrize("method", OF_NUMBERS)
def test_measures_of_numbers(tmp_path, method):
    """Of two values as well, where that is asked for; what the report says is what scikit-learn says of the predictions, and the folds are as good as Python's."""
    x, y = load_diabetes(return_X_y=True)
    answer, got = learn(tmp_path, named(x, y), named(x), method=method, cv_folds=5, threads=2)
    metrics, cv = answer["report"]["metrics"], answer["report"]["cv"]
    assert set(metrics) == {"rmse", "mae", "r2"} and answer["report"]["measured_on"] == "training"
    assert metrics["rmse"] == pytest.approx(math.sqrt(mean_squared_error(y, got))) and metrics["mae"] == pytest.approx(mean_absolute_error(y, got)) and metrics["r2"] == pytest.approx(r2_score(y, got))
    assert cv["folds"] == len(cv["rmse"]) == 5 and cv["mean"] == pytest.approx(np.mean(cv["rmse"])) and cv["std"] == pytest.approx(np.std(cv["rmse"]))
    python = [math.sqrt(mean_squared_error(y[b], OF_NUMBERS[method](n_jobs=1).fit(x[a], y[a]).predict(x[b]))) for a, b in KFold(5, shuffle=True, random_state=1).split(x)]
    assert cv["mean"] == pytest.approx(np.mean(python), rel=0.08)
    two = (y > 150).astype(int)
    python = OF_NUMBERS[method](random_state=SEED, n_jobs=1).fit(x, two)
    answer, got = learn(tmp_path, named(x, two), named(x), method=method, task="regression")
    close(got, python.predict(x), 1e-6)
    answer, got = learn(tmp_path, named(x, two), named(x), method=method)
    assert answer["report"]["task"] == "classification" and got.min() >= 0 and got.max() <= 1


def test_trees_of_many_numbers(tmp_path):
    """Past a million cells by histograms."""
    rng = np.random.default_rng(6)
    x, future = (rng.normal(size=(n, 15)).round(2) for n in (66_700, 2000))
    y, truth = (3 * v[:, 0] + v[:, 1] * v[:, 2] + 50 for v in (x, future))
    python = XGBRegressor(random_state=SEED, n_jobs=1, tree_method="hist").fit(x, y)
    _, got = learn(tmp_path, named(x, y), named(future), method="xgboost")
    assert r2_score(truth, got) == pytest.approx(r2_score(truth, python.predict(future)), abs=1e-3) and r2_score(truth, got) > 0.95


def test_trees_of_many_rows(tmp_path):
    """Past a million cells by histograms."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(66_667, 15)).round(1)
    y = (x[:, 0] + x[:, 1] * x[:, 2] + rng.normal(size=len(x)) > 0).astype(int)
    future = rng.normal(size=(2000, 15)).round(1)
    truth = (future[:, 0] + future[:, 1] * future[:, 2] > 0).astype(int)
    python = XGBClassifier(random_state=SEED, n_jobs=1, tree_method="hist").fit(x, y)
    _, got = learn(tmp_path, named(x, y), named(future), method="xgboost")
    assert roc_auc_score(truth, got) == pytest.approx(roc_auc_score(truth, python.predict_proba(future)[:, 1]), abs=1e-3)


@pytest.mark.parametrize("method", ["logistic_regression", "xgboost", "random_forest"])
def test_measures(tmp_path, sets, method):
    """What the report says of a classifier is what scikit-learn says of its predictions."""
    x, y = sets["cancer"]
    # Three columns, and ones that overlap: a perfect classifier would have nothing to measure.
    few = x[:, [4, 8, 9]].round(3)
    answer, p = learn(tmp_path, named(few, y), named(few), method=method)
    report, metrics = answer["report"], answer["report"]["metrics"]
    assert report["measured_on"] == "training" and report["training_rows"] == report["measured_rows"] == len(y)
    assert metrics["roc_auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-12)
    fpr, tpr, thresholds = roc_curve(y, p)
    curve = metrics["roc_curve"]
    close(curve["fpr"], fpr, 1e-12)
    close(curve["tpr"], tpr, 1e-12)
    close(curve["thresholds"][1:], thresholds[1:], 1e-12)
    assert curve["thresholds"][0] == pytest.approx(p.max() + 1)
    best = metrics["threshold_analysis"]
    assert best["youden_j"] == pytest.approx((tpr - fpr).max(), abs=1e-12)
    assert best["threshold"] == report["optimal_threshold"] == answer["about"]["threshold"]
    assert best["threshold"] == pytest.approx(thresholds[np.argmax(np.round(tpr - fpr, 12))], abs=1e-12)
    says = p >= best["threshold"]
    tn, fp, fn, tp = confusion_matrix(y, says).ravel().tolist()
    assert metrics["confusion_matrix"] == {"matrix": [[tn, fp], [fn, tp]], "true_negatives": tn, "false_positives": fp, "false_negatives": fn, "true_positives": tp}
    for name, of in [("accuracy", accuracy_score), ("precision", precision_score), ("recall", recall_score), ("f1_score", f1_score)]:
        assert metrics[name] == pytest.approx(of(y, says), abs=1e-12), name
    assert (best["sensitivity"], best["specificity"]) == (pytest.approx(tp / (tp + fn)), pytest.approx(tn / (tn + fp)))
    assert (best["precision"], best["f1_score"]) == (metrics["precision"], metrics["f1_score"])
    prob_true, prob_pred = calibration_curve(y, p, n_bins=10)
    close(metrics["calibration_curve"]["prob_true"], prob_true, 1e-12)
    close(metrics["calibration_curve"]["prob_pred"], prob_pred, 1e-12)


def test_what_is_held_back_and_folds(tmp_path, sets):
    """Other rows are drawn than scikit-learn would draw; what comes out is of the same size."""
    x, y = sets["cancer"]
    answer, _ = learn(tmp_path, named(x, y), method="xgboost", test_size=0.25, cv_folds=5, threads=2, undersample=True)
    report = answer["report"]
    ones = round(0.25 * sum(y)) + round(0.25 * sum(y == 0))
    assert report["measured_on"] == "held_back" and report["measured_rows"] == ones
    assert report["training_rows"] == 2 * (sum(y == 0) - round(0.25 * sum(y == 0)))  # both classes as large as the smaller one
    assert report["metrics"]["roc_auc"] > 0.97
    cv = report["cv"]
    assert cv["folds"] == len(cv["roc_auc"]) == 5
    assert cv["mean"] == pytest.approx(np.mean(cv["roc_auc"])) and cv["std"] == pytest.approx(np.std(cv["roc_auc"]))
    python = [roc_auc_score(y[b], XGBClassifier(n_jobs=1).fit(x[a], y[a]).predict_proba(x[b])[:, 1]) for a, b in StratifiedKFold(5).split(x, y)]
    assert cv["mean"] == pytest.approx(np.mean(python), abs=0.01)
