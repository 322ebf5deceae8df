#pragma once
/* The version, in one place: `tollgate version`, /metrics, /health. Semantic versioning. */
#define TG_VERSION "0.1.0"
