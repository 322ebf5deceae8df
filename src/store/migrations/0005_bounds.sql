-- What bounds the queue: the jobs of one principal that have not ended, ended ones by their age, and the jobs of a spool. A query finds the first and the third by the very words of their WHERE.
CREATE INDEX jobs_principal ON jobs (principal) WHERE status IN ('pending', 'running');
CREATE INDEX jobs_ended ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_place ON jobs (place) WHERE status IN ('pending', 'running');
-- Where data of jobs lies (jobs.place), and for how long no gate has used it while another one looked on: unused_us is a sum of what gates have seen on clocks that nobody sets, no time of day. turn moves whenever a row changes.
CREATE TABLE spools (
	place TEXT PRIMARY KEY,
	turn BIGINT NOT NULL,
	unused_us BIGINT NOT NULL
);
