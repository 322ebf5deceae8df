"""The examples do what they say: document 003's session by curl, and document 004's three models with their picture."""
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from lib.ml import GOLDEN, KEYS, PREDICT_KEY, TRAIN_KEY

ROOT = Path(__file__).resolve().parents[2]


def run(g, *command, **env):
    return subprocess.run(command, cwd=g.dir, env={"PATH": os.environ["PATH"], "HOME": str(g.dir), **env}, capture_output=True, text=True, timeout=120)


def test_session(gate):
    """S3-26: the whole guide, line by line, twice over (S3-40)."""
    g = gate(env=KEYS)
    for _ in range(2):
        p = run(g, "sh", ROOT / "examples/train_and_predict.sh", GATE=g.url, TRAIN_KEY=TRAIN_KEY, PREDICT_KEY=PREDICT_KEY)
        assert p.returncode == 0, p.stderr
        assert all(f"{v:.9f}"[:-1] in p.stdout for v in GOLDEN), p.stdout
    p = run(g, "sh", ROOT / "examples/train_and_predict.sh", GATE=g.url, TRAIN_KEY="sk_ml_wrong_abc123")
    assert p.returncode != 0 and "Invalid API key" in p.stdout


def loans(path, rows=600):
    """As the public credit-risk data are, columns coded: who has a bad grade and a high rate pays back less often."""
    rnd = random.Random(7)
    grades = "ABCDEFG"
    lines = ["person_age,person_income,loan_amnt,loan_int_rate," + ",".join(f"loan_grade_{x}" for x in grades) + ",loan_status"]
    for _ in range(rows):
        grade = rnd.randrange(7)
        rate = 6 + 2 * grade + rnd.random()
        bad = int(rnd.random() < 0.05 + 0.12 * grade)
        lines.append(f"{rnd.randint(20, 60)},{rnd.randint(12000, 90000)},{rnd.randint(1000, 30000)},{rate:.2f}," + ",".join(str(int(i == grade)) for i in range(7)) + f",{bad}")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.release_only  # the three models of full size take their time
def test_credit_risk(gate):
    g = gate(env={"CREDIT_RISK_API_KEYS": "credit-test-8fK2mQ7xV4"})
    loans(g.dir / "loans.csv")
    p = run(g, sys.executable, ROOT / "examples/credit_risk.py", "loans.csv", "--url", g.url, "--key", "credit-test-8fK2mQ7xV4", "--undersample", PYTHONPATH=str(ROOT / "clients/python"),
            MPLCONFIGDIR=str(g.dir))
    assert p.returncode == 0, p.stderr
    assert (g.dir / "roc.png").read_bytes().startswith(b"\x89PNG") and (g.dir / "roc.png").stat().st_size > 10000
    for name in ("logistic_regression", "xgboost", "random_forest"):
        [line] = [x for x in p.stdout.splitlines() if x.startswith(name + ": ")]
        assert float(line.split("AUC ")[1].split(",")[0]) > 0.6, line
    assert len(list((g.dir / "artifacts/models").glob("*.tgm"))) == 3
