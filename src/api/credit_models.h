#pragma once
/* A trained model in document 004's words. */
#include <jansson.h>

/* What /train answers and GET /models/{id}/results shows: model_id, model_type, metrics, optimal_threshold (null: the model has none), feature_importance, training_config, training_time_seconds and more, from
 * the metadata that lies beside the model. New reference; NULL: no memory. */
json_t *tg_credit_results(const char *id, json_t *meta);
