-- What changed of what requests are judged by, in the transaction that changed it and whoever made it: a program that knows up to which seq it is told reads the rest, instead of everybody. Only that something changed is
-- said: what it is now stands in its own table. kind: 'key' (id: of api_keys), 'secret' (a digest), 'user' (id), 'token' (jti). The last 10,000 are kept; who is further behind reads everybody.
CREATE TABLE identity_changes (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	kind TEXT NOT NULL,
	id TEXT NOT NULL
);
CREATE TRIGGER identity_changes_kept AFTER INSERT ON identity_changes BEGIN DELETE FROM identity_changes WHERE seq <= NEW.seq - 10000; END;
-- Not of used_at and name, which nobody is judged by.
CREATE TRIGGER api_keys_made AFTER INSERT ON api_keys BEGIN INSERT INTO identity_changes (kind, id) VALUES ('key', NEW.id); END;
CREATE TRIGGER api_keys_changed AFTER UPDATE OF id, permissions, limits, expires_at, revoked_at ON api_keys BEGIN INSERT INTO identity_changes (kind, id) VALUES ('key', OLD.id), ('key', NEW.id); END;
CREATE TRIGGER api_keys_gone AFTER DELETE ON api_keys BEGIN INSERT INTO identity_changes (kind, id) VALUES ('key', OLD.id); END;
CREATE TRIGGER api_key_secrets_made AFTER INSERT ON api_key_secrets BEGIN INSERT INTO identity_changes (kind, id) VALUES ('secret', NEW.digest); END;
CREATE TRIGGER api_key_secrets_changed AFTER UPDATE ON api_key_secrets BEGIN INSERT INTO identity_changes (kind, id) VALUES ('secret', OLD.digest), ('secret', NEW.digest); END;
CREATE TRIGGER api_key_secrets_gone AFTER DELETE ON api_key_secrets BEGIN INSERT INTO identity_changes (kind, id) VALUES ('secret', OLD.digest); END;
CREATE TRIGGER users_made AFTER INSERT ON users BEGIN INSERT INTO identity_changes (kind, id) VALUES ('user', NEW.id); END;
CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN INSERT INTO identity_changes (kind, id) VALUES ('user', OLD.id), ('user', NEW.id); END;
CREATE TRIGGER users_gone AFTER DELETE ON users BEGIN INSERT INTO identity_changes (kind, id) VALUES ('user', OLD.id); END;
CREATE TRIGGER revoked_tokens_made AFTER INSERT ON revoked_tokens BEGIN INSERT INTO identity_changes (kind, id) VALUES ('token', NEW.jti); END;
