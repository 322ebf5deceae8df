-- Users, their keys, and tokens that were ended before their time. used_at is written once a minute at most. Times are seconds since the epoch; digests are the hexadecimal HMAC-SHA256 of a key under
-- data/secret.key; permissions are names separated by commas, so that a row can be read without this program; limits are JSON.
CREATE TABLE users (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	password TEXT NOT NULL,
	permissions TEXT NOT NULL,
	limits TEXT NOT NULL,
	disabled BIGINT NOT NULL,
	tokens_from BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);
CREATE TABLE api_keys (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	permissions TEXT NOT NULL,
	limits TEXT NOT NULL,
	made_by TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	revoked_at BIGINT,
	used_at BIGINT
);
-- A key has one secret, and two while it is being rotated.
CREATE TABLE api_key_secrets (
	digest TEXT PRIMARY KEY,
	key_id TEXT NOT NULL REFERENCES api_keys (id),
	prefix TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT
);
CREATE INDEX api_key_secrets_key ON api_key_secrets (key_id);
CREATE TABLE revoked_tokens (
	jti TEXT PRIMARY KEY,
	expires_at BIGINT NOT NULL
);
