#!/bin/sh
# The service of document 003, whose Quick Start says `fastapi dev examples/auth_ml_service.py`: the same two keys, at http://127.0.0.1:8000, served by the gate with the configuration of this
# folder, if there is one. Your own keys: CHAPKIT_API_KEYS; another port: LOAD_BALANCER_PORT; another binary: TOLLGATE. Everybody who has read the document has its keys: for trying out only.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
export CHAPKIT_API_KEYS="${CHAPKIT_API_KEYS:-sk_ml_train_abc123,sk_ml_predict_xyz789}"
export LOAD_BALANCER_PORT="${LOAD_BALANCER_PORT:-8000}"
exec "${TOLLGATE:-$here/build/tollgate}" serve
