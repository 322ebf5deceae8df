"""S3-02: document 003's example, started by one command, with its keys, on its port."""
import os
import subprocess

import httpx
from lib.gate import BINARY, ROOT, START_S, clean_env, free_port
from lib.raw import until

SCRIPT = ROOT / "examples/auth_ml_service.sh"


def test_the_example_serves(tmp_path):
    """Public health, a 401 in the document's words without a key, and both of its keys are keys."""
    port = free_port()
    with open(tmp_path / "err", "w") as err:
        p = subprocess.Popen(["sh", SCRIPT], cwd=tmp_path, env=clean_env({"TOLLGATE": BINARY, "LOAD_BALANCER_PORT": port}), stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    try:
        until(lambda: "tollgate: ready" in (tmp_path / "err").read_text() or p.poll() is not None, START_S, "the example being ready", 0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as c:
            assert c.get("/health").json() == {"status": "healthy", "checks": {"database": "healthy"}}
            denied = c.get("/api/v1/configs")
            assert denied.status_code == 401 and denied.json()["detail"] == "Missing authentication header: X-API-Key" and denied.json()["title"] == "Unauthorized"
            for key in ("sk_ml_train_abc123", "sk_ml_predict_xyz789"):
                assert c.get("/auth/verify", headers={"X-API-Key": key}).status_code == 200, key
            assert c.get("/auth/verify", headers={"X-API-Key": "sk_ml_other_abc123"}).status_code == 401
    finally:
        p.terminate()
        assert p.wait(30) == 0, (tmp_path / "err").read_text()


def test_what_it_starts_by_default(tmp_path):
    """Port 8000 and the document's two keys, unless the caller has said otherwise."""
    fake = tmp_path / "tollgate"
    fake.write_text('#!/bin/sh\necho "$*|$LOAD_BALANCER_PORT|$CHAPKIT_API_KEYS"\n')
    fake.chmod(0o755)

    def told(**env):
        return subprocess.run(["sh", SCRIPT], cwd=tmp_path, env={"PATH": os.environ["PATH"], "TOLLGATE": str(fake), **env}, capture_output=True, text=True, timeout=10).stdout.strip()
    assert told() == "serve|8000|sk_ml_train_abc123,sk_ml_predict_xyz789"
    assert told(CHAPKIT_API_KEYS="own_key_12345", LOAD_BALANCER_PORT="8001") == "serve|8001|own_key_12345"
