#!/bin/sh
# Document 003's session, line by line: configuration, training, job, model, prediction. Needs curl and python3 (to read an answer's members).
#   GATE=http://127.0.0.1:8000 TRAIN_KEY=sk_ml_train_abc123 PREDICT_KEY=sk_ml_predict_xyz789 sh examples/train_and_predict.sh
set -eu
GATE=${GATE:-http://127.0.0.1:8000}
TRAIN_KEY=${TRAIN_KEY:-sk_ml_train_abc123}
PREDICT_KEY=${PREDICT_KEY:-sk_ml_predict_xyz789}

call() { # KEY METHOD PATH [BODY]: the answer on stdout; a refusal ends the script with what the gate said
	if [ $# -gt 3 ]; then
		set -- "$1" "$2" "$3" -H 'Content-Type: application/json' -d "$4"
	fi
	key=$1 method=$2 path=$3
	shift 3
	curl --silent --show-error --fail-with-body -X "$method" -H "X-API-Key: $key" "$GATE$path" "$@"
}
member() { # NAME: of the JSON object on stdin
	python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
finish() { # KEY JOB: waits for its end
	while :; do
		status=$(call "$1" GET "/api/v1/jobs/$2" | member status)
		case $status in
		completed) return ;;
		failed | canceled)
			call "$1" GET "/api/v1/jobs/$2"
			exit 1
			;;
		esac
		sleep 0.2
	done
}

call "$TRAIN_KEY" GET /health
echo
call "$TRAIN_KEY" GET /api/v1/system
echo
config=$(call "$TRAIN_KEY" POST /api/v1/configs '{"name": "secure_disease_model", "data": {}}' | member id)
answer=$(call "$TRAIN_KEY" POST "/api/v1/ml/\$train" '{"config_id": "'"$config"'", "data": {
	"columns": ["rainfall", "mean_temperature", "disease_cases"],
	"data": [[100.5, 25.3, 12], [85.2, 27.1, 8], [120.8, 24.5, 15], [95.3, 26.2, 10], [110.0, 26.0, 13], [75.5, 28.0, 6], [130.2, 23.8, 18], [88.9, 27.5, 9]]}}')
echo "$answer"
model=$(echo "$answer" | member model_artifact_id)
finish "$TRAIN_KEY" "$(echo "$answer" | member job_id)"
call "$TRAIN_KEY" GET "/api/v1/artifacts/$model"
echo

answer=$(call "$PREDICT_KEY" POST "/api/v1/ml/\$predict" '{"model_artifact_id": "'"$model"'",
	"historic": {"columns": ["rainfall", "mean_temperature"], "data": []},
	"future": {"columns": ["rainfall", "mean_temperature"], "data": [[110.0, 26.0], [90.0, 28.0], [125.0, 24.0], [80.0, 29.0]]}}')
echo "$answer"
finish "$PREDICT_KEY" "$(echo "$answer" | member job_id)"
call "$PREDICT_KEY" GET "/api/v1/artifacts/$(echo "$answer" | member prediction_artifact_id)"
echo
