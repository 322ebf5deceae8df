"""clients/python: what it sends and how it takes refusals, against answers made up here; then a whole session, against the real gate and engine."""
import decimal
import fractions
import json
import sys
import time
from pathlib import Path

import httpx
import pandas
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients" / "python"))
import tollgate_client as tc  # noqa: E402
from tollgate_client.frames import from_wire, to_wire  # noqa: E402

WEATHER = {"rainfall": [100.5, 85.2, 120.8, 95.3, 110.0, 75.5, 130.2, 88.9], "mean_temperature": [25.3, 27.1, 24.5, 26.2, 26.0, 28.0, 23.8, 27.5],
           "disease_cases": [12, 8, 15, 10, 13, 6, 18, 9]}
FUTURE = {"rainfall": [110.0, 90.0, 125.0, 80.0], "mean_temperature": [26.0, 28.0, 24.0, 29.0]}


class Answers:
    """A gate of a list of answers: (status, headers, body); what was asked is kept."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, request):
        self.asked.append(request)
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(body, Exception):
            raise body
        return httpx.Response(status, headers=headers, json=body)

    def client(self, **more):
        return tc.TollgateClient("http://gate", api_key="k", transport=httpx.MockTransport(self), **more)


PROBLEM = {"code": "VALIDATION_ERROR", "detail": "Validation error on name: is required", "request_id": "01R", "error": {"code": "VALIDATION_ERROR", "param": "name"}}


@pytest.mark.parametrize("status,body,kind,code", [
    (400, PROBLEM, tc.ValidationError, "VALIDATION_ERROR"),
    (401, {"code": "AUTHENTICATION_FAILED", "detail": "Invalid API key"}, tc.AuthenticationError, "AUTHENTICATION_FAILED"),
    (403, {"code": "PERMISSION_DENIED", "detail": "x"}, tc.PermissionDeniedError, "PERMISSION_DENIED"),
    (404, {"code": "NOT_FOUND", "detail": "x"}, tc.NotFoundError, "NOT_FOUND"),
    (400, {"error": "MODEL_NOT_FOUND", "message": "Model not found: x"}, tc.NotFoundError, "MODEL_NOT_FOUND"),
    (409, {"code": "CONFLICT", "detail": "x"}, tc.ConflictError, "CONFLICT"),
    (500, {"code": "INTERNAL_ERROR", "detail": "x"}, tc.ServerError, "INTERNAL_ERROR"),
    (502, None, tc.ServerError, None),
])
def test_codes_are_exceptions(status, body, kind, code):
    """S2-74: each code of the gate is an exception with the field, the words and the request's id; a body that is none of ours still makes one."""
    with pytest.raises(kind) as e:
        Answers((status, {}, body)).client(retries=0).artifact("x")
    assert e.value.status == status and e.value.code == code and type(e.value) is kind
    if body is PROBLEM:
        assert e.value.param == "name" and e.value.request_id == "01R" and "is required" in str(e.value)


def test_waits_as_it_is_told(monkeypatch):
    """S2-73: Retry-After is waited out, and no longer than max_wait; x-should-retry: false is not knocked at."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    limited = (429, {"Retry-After": "7"}, {"code": "RATE_LIMITED", "detail": "x"})
    a = Answers(limited, (503, {"Retry-After": "2"}, {}), (200, {}, {"id": "x"}))
    assert a.client().artifact("x") == {"id": "x"} and slept == [7, 2] and len(a.asked) == 3
    for headers in ({"Retry-After": "61"}, {"Retry-After": "1", "x-should-retry": "false"}, {}):
        a = Answers((429, headers, {"code": "RATE_LIMITED", "detail": "x"}))
        with pytest.raises(tc.RateLimitedError):
            a.client().artifact("x")
        assert len(a.asked) == 1
    slept.clear()
    a = Answers(limited)
    with pytest.raises(tc.RateLimitedError) as e:
        a.client(retries=2).artifact("x")
    assert e.value.retry_after == 7 and slept == [7, 7] and len(a.asked) == 3


def test_paces_itself(monkeypatch):
    """S2-73: a window that an answer showed to be used up is waited out before the next request there, and only there."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 30)}
    c = Answers((200, used_up, {"id": "x"}), (200, {}, {"id": "x", "status": "pending"})).client()
    c.artifact("x")
    c.job("x")
    assert slept == []
    c.artifact("x")
    assert len(slept) == 1 and 28 < slept[0] <= 30
    c.artifact("x")
    assert len(slept) == 1


def test_lost_connections(monkeypatch):
    """A read is asked again; what may have been carried out is not."""
    monkeypatch.setattr(time, "sleep", lambda s: None)
    a = Answers((0, {}, httpx.ConnectError("no")), (200, {}, {"id": "x"}))
    assert a.client().artifact("x") == {"id": "x"} and len(a.asked) == 2
    a = Answers((0, {}, httpx.ReadError("cut")))
    with pytest.raises(tc.UnavailableError):
        a.client().request("POST", "/api/v1/ml/$train", json={})
    assert len(a.asked) == 1


def test_jobs_end(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda s: None)
    record = {"id": "J", "status": "pending", "progress": 0, "message": ""}
    job = tc.Job(Answers((200, {}, record), (200, {}, {**record, "status": "running", "progress": 40}), (200, {}, {**record, "status": "completed", "progress": 100})).client(), record)
    assert job.wait(progress=True)["progress"] == 100 and job.status == "completed"
    with pytest.raises(tc.JobFailed, match="one value only"):
        tc.Job(Answers((200, {}, {**record, "status": "failed", "error": "The target has one value only."})).client(), record).wait()
    with pytest.raises(tc.JobCanceled):
        tc.Job(Answers((404, {}, {"detail": "Job not found", "code": "NOT_FOUND"})).client(), record).wait()
    with pytest.raises(TimeoutError):
        tc.Job(Answers((200, {}, record)).client(), record).wait(timeout=0)


def test_tables():
    """Whole numbers stay whole, whatever is missing becomes null, and what came as pandas goes as pandas with its index."""
    frame = pandas.DataFrame({"n": [1, 2], "x": [0.5, float("nan")], "t": ["a", None], "d": pandas.to_datetime(["2026-01-02", None])}, index=["p", "q"])
    wire = to_wire(frame)
    assert json.dumps(wire["data"][0][:3]) == '[1, 0.5, "a"]' and wire["data"][1][1:] == [None, None, None] and wire["data"][0][3].startswith("2026-01-02")
    assert to_wire({"a": [1, 2], "b": ["x", "y"]}) == {"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]} == to_wire([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    back = from_wire({"columns": ["n", "sample_0"], "data": [[1, 2.5], [2, 3.5]]}, like=frame)
    assert list(back.index) == ["p", "q"] and back["sample_0"].tolist() == [2.5, 3.5] and back["n"].dtype.kind == "i"
    assert from_wire({"columns": [], "data": []}, like={}) == {"columns": [], "data": []}
    with pytest.raises(ValueError, match="lengths"):
        to_wire({"a": [1], "b": []})


# ---- the real thing ----

KEY = "sk_ml_train_abc123"


@pytest.fixture
def client(gate):
    g = gate(env={"CHAPKIT_API_KEYS": KEY})
    with tc.TollgateClient(g.url, api_key=KEY) as c:
        yield c


def test_numbers_of_every_kind_are_numbers():
    """SQL's NUMERIC columns come as Decimal: as texts each value would be a category, and a model that has learnt nothing."""
    frame = pandas.DataFrame({"a": [decimal.Decimal("1.5"), decimal.Decimal("NaN"), fractions.Fraction(1, 4)], "b": ["x", None, "y"]})
    assert to_wire(frame)["data"] == [[1.5, "x"], [None, None], [0.25, "y"]]
    assert to_wire([{"a": decimal.Decimal("3")}])["data"] == [[3.0]]


def test_training_is_waited_for_as_long_as_the_gate_may_take():
    """/train answers after five minutes at the latest: who gives up earlier has a job that he does not know."""
    for given, want in ((0.5, 330.0), (1000.0, 1000.0), (None, None)):
        a = Answers((200, {}, {"model_id": "m"}))
        a.client(timeout=given).credit_train(dataset="x.csv")
        assert a.asked[0].extensions["timeout"]["read"] == want and a.asked[0].extensions["timeout"]["connect"] == given


def test_session(client):
    """Train, wait with a progress bar, predict: document 003's data, pandas in and out, the least-squares values (S3-55)."""
    model = client.train(pandas.DataFrame(WEATHER), target="disease_cases", progress=True)
    assert model.data["target"] == "disease_cases" and model.data["model_type"] == "sklearn.linear_model.LinearRegression"
    future = pandas.DataFrame(FUTURE, index=list("wxyz"))
    got = client.predict(model, future)
    assert list(got.columns) == ["rainfall", "mean_temperature", "sample_0"] and list(got.index) == list("wxyz")
    assert got["sample_0"].tolist() == pytest.approx([13.046377018145838, 8.628929113083778, 16.566732497622098, 6.420205160552747], abs=1e-9)
    plain = client.predict(model.id, FUTURE)
    assert plain["data"][0][:2] == [110.0, 26.0] and len(plain["data"]) == 4


def test_what_goes_wrong(client):
    with pytest.raises(tc.ValidationError, match=r"nowhere"):
        client.train(WEATHER, target="nowhere")
    with pytest.raises(tc.NotFoundError):
        client.predict("01K7CXYHJ7BR4E87VVTG8FNBZZ", FUTURE)
    with pytest.raises(tc.JobFailed, match="one value"):
        client.train({"a": [1, 2, 3, 4], "y": ["n", "n", "n", "n"]}, target="y", method="logistic_regression")
    with pytest.raises(tc.AuthenticationError):
        tc.TollgateClient(str(client._http.base_url), api_key="wrong", retries=0).train(WEATHER)
