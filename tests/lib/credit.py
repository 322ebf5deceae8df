"""
What the tests of document 004's /train and /predict share.

    KEY, OTHER_KEY, KEYS           -> two keys of CREDIT_RISK_API_KEYS
    credit_gate(gate, **kw)        -> a gate with those keys and without limits
    loans(rows), csv(frame)        -> a table of loans as the document's data set has it, its texts coded as columns of 0 and 1; the same as CSV
    APPLICATION                    -> an application with all its fields
    train(c, **options), trained(c, ...) -> the response to POST /train of such a table; the body of one that went well
    predict(c, model, applications, **more)
"""
import random

from .raw import SLOW

KEY, OTHER_KEY = "cr_key_4Vt8pQ2xW6mZ9kR1", "cr_key_7Hs3bN5yJ0fL8dC4"
KEYS = {"CREDIT_RISK_API_KEYS": f"{KEY},{OTHER_KEY}"}
NUMBERS = ["person_age", "person_income", "person_emp_length", "loan_amnt", "loan_int_rate", "loan_percent_income", "cb_person_cred_hist_length"]
TEXTS = {"person_home_ownership": ["MORTGAGE", "OTHER", "OWN", "RENT"], "loan_intent": ["DEBTCONSOLIDATION", "EDUCATION", "HOMEIMPROVEMENT", "MEDICAL", "PERSONAL", "VENTURE"],
         "loan_grade": list("ABCDEFG"), "cb_person_default_on_file": ["N", "Y"]}
CODED = [f"{c}_{v}" for c, values in TEXTS.items() for v in values]
APPLICATION = {"person_age": 27, "person_income": 42000, "person_emp_length": 3.0, "loan_amnt": 9000, "loan_int_rate": 13.5, "loan_percent_income": 0.21, "cb_person_cred_hist_length": 4,
               "person_home_ownership": "RENT", "loan_intent": "MEDICAL", "loan_grade": "C", "cb_person_default_on_file": "N"}


def credit_gate(gate, toml=None, env=None, **kw):
    return gate(toml={"limits": {"train": "off", "predict": "off", "poll": "off"}, **(toml or {})}, env={**KEYS, **(env or {})}, **kw)


def applications(n, seed=4):
    rnd = random.Random(seed)
    for _ in range(n):
        amount, income = rnd.randrange(1000, 30000, 500), rnd.randrange(12000, 120000, 1000)
        yield {"person_age": rnd.randrange(20, 70), "person_income": income, "person_emp_length": rnd.randrange(0, 20), "loan_amnt": amount, "loan_int_rate": round(rnd.uniform(5, 22), 2),
               "loan_percent_income": round(min(amount / income, 1), 2), "cb_person_cred_hist_length": rnd.randrange(2, 20), **{c: rnd.choice(v) for c, v in TEXTS.items()}}


def loans(n=300, seed=4):
    rnd, data = random.Random(seed + 1), []
    for a in applications(n, seed):
        risk = 8 * a["loan_percent_income"] + a["loan_int_rate"] / 8 + "ABCDEFG".index(a["loan_grade"]) / 2 + (a["person_home_ownership"] == "RENT") + rnd.gauss(0, 1)
        data.append([*(a[c] for c in NUMBERS[:5]), int(risk > 6.5), *(a[c] for c in NUMBERS[5:]), *(int(a[c] == v) for c, values in TEXTS.items() for v in values)])
    return {"columns": [*NUMBERS[:5], "loan_status", *NUMBERS[5:], *CODED], "data": data}


def csv(frame):
    return "\n".join([",".join(frame["columns"]), *(",".join(map(str, row)) for row in frame["data"])]) + "\n"


def coded(a):
    """The application as a row of the table."""
    return {**{c: a[c] for c in NUMBERS}, **{f"{c}_{v}": int(a[c] == v) for c, values in TEXTS.items() for v in values}}


def train(c, path="/train", headers=None, **options):
    if not isinstance(options.get("dataset"), (str, int)):
        options.setdefault("data", loans())
    return c.post(path, json=options, headers=headers, timeout=60 * SLOW)


def trained(c, **options):
    r = train(c, **options)
    assert r.status_code == 200, r.text
    return r.json()


def predict(c, model, rows=(APPLICATION,), path="/predict", **more):
    return c.post(path, json={"model_id": model, "applications": list(rows), **more}, timeout=60 * SLOW)
