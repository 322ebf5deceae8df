"""TollgateClient: train, predict, wait.

It keeps to what the gate tells it: a 429 is waited out as long as Retry-After says (unless x-should-retry says that it is no use), and a window that an
answer showed to be used up is not knocked at again before it has passed.
"""
import time

import httpx
from tqdm import tqdm

from .errors import JobCanceled, JobFailed, NotFoundError, UnavailableError, error_of, retry_after
from .frames import from_wire, to_wire

_DONE = ("completed", "failed", "canceled")
_TRAIN_S = 330.0  # the gate answers /train after 300 s at the latest, by then with a job


class Job:
    """A training or prediction that goes on at the gate."""

    def __init__(self, client, body):
        self._client = client
        self.id = body.get("job_id") or body["id"]
        self.artifact_id = body.get("model_artifact_id") or body.get("prediction_artifact_id") or body.get("artifact_id")
        self.status = body.get("status", "pending")

    def __repr__(self):
        return f"<Job {self.id} {self.status}>"

    def refresh(self):
        """The job's record as it is now."""
        try:
            body = self._client.request("GET", f"/api/v1/jobs/{self.id}").json()
        except NotFoundError as gone:
            raise JobCanceled(f"The job {self.id} was canceled.") from gone
        self.status = body["status"]
        return body

    def wait(self, timeout=None, progress=False):
        """Until it has ended. Raises JobFailed with the job's own words, TimeoutError after `timeout` seconds (the job goes on)."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        bar = tqdm(total=100, unit="%", desc=self.id, leave=False) if progress else None
        try:
            while True:
                body = self.refresh()
                if bar is not None:
                    bar.set_postfix_str(body.get("message") or "", refresh=False)
                    bar.update((body.get("progress") or 0) - bar.n)
                if self.status in _DONE:
                    break
                if end is not None and time.monotonic() + pause > end:
                    raise TimeoutError(f"the job {self.id} is still {self.status} after {timeout} s")
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)
        finally:
            if bar is not None:
                bar.close()
        if self.status == "failed":
            raise JobFailed(body.get("error") or "The job failed.")
        if self.status == "canceled":
            raise JobCanceled(f"The job {self.id} was canceled.")
        return body

    def cancel(self):
        self._client.request("DELETE", f"/api/v1/jobs/{self.id}")
        self.status = "canceled"


class Model:
    """A trained model. `data` is what its artifact says: method, target, features, metrics, ..."""

    def __init__(self, id, data=None):
        self.id, self.data = id, data or {}

    def __repr__(self):
        return f"<Model {self.id} {self.data.get('method', '')}>"


class TollgateClient:
    """base_url: of the gate. api_key: as its operator gave it; None on a gate that needs none. timeout: seconds without a byte. retries: how often a request that was
    refused for now (429, 503) is tried again; max_wait: seconds, the longest it waits for that in one go."""

    def __init__(self, base_url="http://127.0.0.1:9001", api_key=None, timeout=60.0, retries=3, max_wait=60.0, transport=None):
        self._http = httpx.Client(base_url=base_url, timeout=timeout, transport=transport, headers={"X-API-Key": api_key} if api_key else {})
        self._retries, self._max_wait = retries, max_wait
        self._not_before = {}  # first part of a path -> time: the window that was used up there

    def close(self):
        self._http.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- one request ----

    def _pace(self, area):
        left = self._not_before.pop(area, 0) - time.time()
        if 0 < left <= self._max_wait:
            time.sleep(left)

    def _note(self, area, response):
        reset = response.headers.get("X-RateLimit-Reset", "")
        if response.headers.get("X-RateLimit-Remaining") == "0" and reset.isdigit():
            self._not_before[area] = int(reset)

    def request(self, method, path, **how):
        """One request; an answer that is no success is an exception of errors.py."""
        area = "/".join(path.split("/")[:4]), method
        for attempt in range(self._retries + 1):
            self._pace(area)
            try:
                response = self._http.request(method, path, **how)
            except httpx.TransportError as fault:
                # Whether it was carried out is not known: only what changes nothing is asked again.
                if method == "GET" and attempt < self._retries:
                    time.sleep(min(0.1 * 2 ** attempt, self._max_wait))
                    continue
                raise UnavailableError(f"No answer from {self._http.base_url}: {fault}") from fault
            self._note(area, response)
            if response.status_code < 400:
                return response
            wait = retry_after(response)
            hopeless = response.headers.get("x-should-retry") == "false"
            if response.status_code not in (429, 503) or wait is None or wait > self._max_wait or hopeless or attempt == self._retries:
                raise error_of(response)
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    # ---- document 003: configurations, jobs, artifacts ----

    def train(self, data, target=None, features=None, method=None, config=None, name="model", wait=True, progress=False, timeout=None, **options):
        """Trains on a table and returns the Model; wait=False returns the Job.

        config: the id of a configuration that is there; without it one is made of target, features, method and options (seed, test_size, task, ...). Without any of them the
        last column is the target and the method is linear regression.
        """
        if config is None:
            chosen = {"target": target, "features": list(features) if features is not None else None, "method": method, **options}
            body = {"name": name, "data": {k: v for k, v in chosen.items() if v is not None}}
            config = self.request("POST", "/api/v1/configs", json=body).json()["id"]
        elif target is not None or features is not None or method is not None or options:
            raise ValueError("give either a configuration or what it would say")
        job = Job(self, self.request("POST", "/api/v1/ml/$train", json={"config_id": config, "data": to_wire(data)}).json())
        if not wait:
            return job
        job.wait(timeout, progress)
        return self.model(job.artifact_id)

    def model(self, id):
        return Model(id, self.artifact(id)["data"])

    def predict(self, model, future, historic=None, wait=True, progress=False, timeout=None):
        """The table `future` with a column sample_0; as pandas where `future` is pandas. wait=False returns the Job; then ask prediction(job.artifact_id)."""
        wire = to_wire(future)
        body = {"model_artifact_id": model.id if isinstance(model, Model) else model, "future": wire,
                "historic": to_wire(historic) if historic is not None else {"columns": wire["columns"], "data": []}}
        job = Job(self, self.request("POST", "/api/v1/ml/$predict", json=body).json())
        if not wait:
            return job
        job.wait(timeout, progress)
        return self.prediction(job.artifact_id, like=future)

    def prediction(self, id, like=None):
        return from_wire(self.artifact(id)["data"]["predictions"], like)

    def artifact(self, id):
        return self.request("GET", f"/api/v1/artifacts/{id}").json()

    def job(self, id):
        return Job(self, self.request("GET", f"/api/v1/jobs/{id}").json())

    # ---- document 004: credit risk ----

    def credit_train(self, data=None, dataset=None, model_type="logistic_regression", target="loan_status", **options):
        """POST /train: the whole result (model_id, metrics, optimal_threshold, ...). data: a table; dataset: the name of a file at the gate. options: test_size, random_state,
        cv_folds, undersample, selected_features, task."""
        if (data is None) == (dataset is None):
            raise ValueError("give either data or dataset")
        body = {"model_type": model_type, "target": target, **options}
        body.update({"dataset": dataset} if data is None else {"data": to_wire(data)})
        patient = self._http.timeout.as_dict()
        if patient["read"] is not None:
            patient["read"] = max(patient["read"], _TRAIN_S)
        response = self.request("POST", "/train", json=body, timeout=httpx.Timeout(**patient))
        if response.status_code != 202:
            return response.json()
        job = self.job(response.json()["id"])  # it takes longer than a request may
        job.wait()
        return self.request("GET", f"/models/{job.artifact_id}/results").json()

    def credit_predict(self, model_id, applications, threshold=None):
        """POST /predict: applications: a list of {field: value} as document 004 has them, or any table with the model's columns."""
        body = {"model_id": model_id}
        if threshold is not None:
            body["threshold"] = threshold
        if isinstance(applications, list):
            body["applications"] = applications
        else:
            body["data"] = to_wire(applications)
        return self.request("POST", "/predict", json=body).json()
