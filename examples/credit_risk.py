#!/usr/bin/env python3
"""Trains the three credit-risk models of document 004 on a CSV file, compares them, and draws their ROC curves.

    pip install ./clients/python[pandas] matplotlib
    python examples/credit_risk.py loans.csv --url http://127.0.0.1:9001 --key KEY --picture roc.png

The CSV needs a column loan_status (1: the loan was not paid back). What the gate allows (10 trainings an hour) is enough for three of these runs.
"""
import argparse
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import pandas as pd  # noqa: E402
from tollgate_client import TollgateClient  # noqa: E402

MODELS = ("logistic_regression", "xgboost", "random_forest")


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument("csv")
    a.add_argument("--url", default="http://127.0.0.1:9001")
    a.add_argument("--key", default=os.environ.get("TOLLGATE_KEY"))
    a.add_argument("--target", default="loan_status")
    a.add_argument("--undersample", action="store_true", help="as many good loans as bad ones in the training part")
    a.add_argument("--picture", default="roc.png")
    args = a.parse_args()
    loans = pd.read_csv(args.csv)

    figure, axes = plt.subplots(figsize=(6, 6))
    with TollgateClient(args.url, api_key=args.key, timeout=600) as gate:
        for name in MODELS:
            result = gate.credit_train(loans, model_type=name, target=args.target, undersample=args.undersample, test_size=0.2, random_state=42, cv_folds=5)
            m, roc = result["metrics"], result["metrics"]["roc_curve"]
            print(f"{name}: AUC {m['roc_auc']:.4f}, accuracy {m['accuracy']:.4f}, recall {m['recall']:.4f}; threshold {result['optimal_threshold']:.3f}; "
                  f"{result['training_time_seconds']:.2f} s; model {result['model_id']}")
            axes.plot(roc["fpr"], roc["tpr"], label=f"{name} ({m['roc_auc']:.3f})")
        some = loans.drop(columns=[args.target]).head(5)
        got = gate.credit_predict(result["model_id"], some)
        print(pd.DataFrame([{k: p[k] for k in ("predicted_default", "default_probability", "confidence")} for p in got["predictions"]]).to_string())
    axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=1)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="Who will not pay back")
    axes.legend(loc="lower right")
    figure.tight_layout()
    figure.savefig(args.picture, dpi=120)
    print("drawn:", args.picture)


if __name__ == "__main__":
    main()
