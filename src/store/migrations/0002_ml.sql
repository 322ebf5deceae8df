-- Configurations of trainings, their results, and the queue of work. Times are microseconds since the epoch; ids are ULIDs in upper case; data and spec are JSON. A list is in the order of making.
CREATE TABLE configs (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	data TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);
CREATE INDEX configs_made ON configs (created_at, id);
-- config_id is the member of that name of data, where data is an object that has it: no reference, since a model stays when its configuration goes.
CREATE TABLE artifacts (
	id TEXT PRIMARY KEY,
	parent_id TEXT REFERENCES artifacts (id),
	level BIGINT NOT NULL,
	config_id TEXT,
	data TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	updated_at BIGINT NOT NULL
);
CREATE INDEX artifacts_made ON artifacts (created_at, id);
CREATE INDEX artifacts_parent ON artifacts (parent_id, created_at, id);
CREATE INDEX artifacts_config ON artifacts (config_id, created_at, id);
-- place is the one owner who may claim it, where its data lies with him. owner is whoever has claimed a running row, until lease_ends. status: pending, running, completed, failed, canceled.
CREATE TABLE jobs (
	id TEXT PRIMARY KEY,
	kind TEXT NOT NULL,
	status TEXT NOT NULL,
	progress BIGINT NOT NULL,
	message TEXT NOT NULL,
	result TEXT,
	error TEXT,
	spec TEXT NOT NULL,
	artifact_id TEXT,
	principal TEXT NOT NULL,
	key_prefix TEXT NOT NULL,
	place TEXT,
	attempts BIGINT NOT NULL,
	created_at BIGINT NOT NULL,
	started_at BIGINT,
	finished_at BIGINT,
	updated_at BIGINT NOT NULL,
	owner TEXT,
	lease_ends BIGINT
);
CREATE INDEX jobs_made ON jobs (created_at, id);
CREATE INDEX jobs_status ON jobs (status, created_at, id);
CREATE INDEX jobs_artifact ON jobs (artifact_id);
CREATE INDEX jobs_waiting ON jobs (kind, status, created_at, id);
