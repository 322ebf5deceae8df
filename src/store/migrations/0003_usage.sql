-- What each principal used, a row a day (days since 1970-01-01, UTC). cost is in thousand-millionths of the currency's unit. Rows are added to, never replaced, and go after [store] usage_days.
CREATE TABLE usage (
	day BIGINT NOT NULL,
	principal TEXT NOT NULL,
	requests BIGINT NOT NULL,
	prompt_tokens BIGINT NOT NULL,
	completion_tokens BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	errors BIGINT NOT NULL,
	limited BIGINT NOT NULL,
	rows_seen BIGINT NOT NULL,
	trainings BIGINT NOT NULL,
	predictions BIGINT NOT NULL,
	PRIMARY KEY (principal, day)
);
CREATE INDEX usage_day ON usage (day);
-- Who they were: kept beside the counts, since a key may leave its file and a user the database. key_prefix and label are what a log may show of a key.
CREATE TABLE usage_principals (
	principal TEXT PRIMARY KEY,
	source TEXT NOT NULL,
	name TEXT NOT NULL,
	key_prefix TEXT NOT NULL,
	label TEXT NOT NULL
);
