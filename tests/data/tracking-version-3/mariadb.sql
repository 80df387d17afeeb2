CREATE TABLE system_migration_death (
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	generation INTEGER NOT NULL,
	pass INTEGER NOT NULL,
	`range` BIGINT NOT NULL,
	last_range BIGINT,
	deaths INTEGER NOT NULL,
	CONSTRAINT pk_system_migration_death PRIMARY KEY (environment, name, generation, pass, `range`)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE system_migration_event (
	id BIGINT NOT NULL AUTO_INCREMENT,
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128),
	run_id VARCHAR(36),
	at DATETIME(6) NOT NULL,
	action VARCHAR(32) NOT NULL,
	actor VARCHAR(255) NOT NULL,
	host VARCHAR(255) NOT NULL,
	detail LONGTEXT NOT NULL,
	CONSTRAINT pk_system_migration_event PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_system_migration_event_name ON system_migration_event (environment, name, id);

CREATE TABLE system_migration_issue (
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	generation INTEGER NOT NULL,
	key_digest VARCHAR(64) NOT NULL,
	`key` LONGTEXT NOT NULL,
	code VARCHAR(64) NOT NULL,
	message TEXT NOT NULL,
	run_id VARCHAR(36) NOT NULL,
	at DATETIME(6) NOT NULL,
	CONSTRAINT pk_system_migration_issue PRIMARY KEY (environment, name, generation, key_digest)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_system_migration_issue_met ON system_migration_issue (environment, name, generation, at, key_digest);

CREATE TABLE system_migration_journal (
	id BIGINT NOT NULL AUTO_INCREMENT,
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	generation INTEGER NOT NULL,
	pass INTEGER NOT NULL,
	`range` BIGINT NOT NULL,
	run_id VARCHAR(36) NOT NULL,
	`rows` INTEGER NOT NULL,
	digest VARCHAR(64) NOT NULL,
	images LONGTEXT NOT NULL,
	CONSTRAINT pk_system_migration_journal PRIMARY KEY (id)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_system_migration_journal_generation ON system_migration_journal (environment, name, generation, id);

CREATE TABLE system_migration_lease (
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	holder VARCHAR(36) NOT NULL,
	held_by VARCHAR(255) NOT NULL,
	fence BIGINT NOT NULL,
	renewed_at DATETIME(6) NOT NULL,
	expires_at DATETIME(6) NOT NULL,
	takeover_at DATETIME(6) NOT NULL,
	released BOOL NOT NULL,
	pulse TEXT,
	pulse_at DATETIME(6),
	CONSTRAINT pk_system_migration_lease PRIMARY KEY (environment, name)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE system_migration_ledger (
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	generation INTEGER NOT NULL,
	pass INTEGER NOT NULL,
	`range` BIGINT NOT NULL,
	last_range BIGINT NOT NULL DEFAULT 0,
	batches BIGINT NOT NULL DEFAULT 1,
	run_id VARCHAR(36) NOT NULL,
	attempt VARCHAR(36) NOT NULL,
	lower LONGTEXT,
	upper LONGTEXT,
	rows_read BIGINT NOT NULL,
	changed BIGINT NOT NULL,
	unchanged BIGINT NOT NULL,
	held BIGINT NOT NULL,
	vanished BIGINT NOT NULL,
	deferred INTEGER NOT NULL,
	deferred_keys LONGTEXT,
	seconds FLOAT NOT NULL,
	committed_at DATETIME(6) NOT NULL,
	CONSTRAINT pk_system_migration_ledger PRIMARY KEY (environment, name, generation, pass, `range`),
	CONSTRAINT uq_system_migration_ledger_attempt UNIQUE (attempt)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE system_migration_meta (
	id SMALLINT NOT NULL,
	schema_version INTEGER NOT NULL,
	environment VARCHAR(64) NOT NULL,
	place TEXT NOT NULL,
	body TEXT NOT NULL,
	bound_at DATETIME(6) NOT NULL,
	CONSTRAINT pk_system_migration_meta PRIMARY KEY (id),
	CONSTRAINT ck_system_migration_meta_one_row CHECK (id = 1)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE system_migration_migration (
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	version VARCHAR(64) NOT NULL,
	status VARCHAR(16) NOT NULL,
	row_version INTEGER NOT NULL,
	generation INTEGER NOT NULL,
	verified BOOL NOT NULL,
	applied BOOL NOT NULL,
	run_id VARCHAR(36),
	upper_bound LONGTEXT,
	pins LONGTEXT NOT NULL,
	max_issues BIGINT,
	request VARCHAR(16),
	requested_by VARCHAR(255),
	cancelled BOOL NOT NULL DEFAULT false,
	executed_at DATETIME(6),
	executed_by VARCHAR(255),
	finished_at DATETIME(6),
	records_processed BIGINT NOT NULL,
	issues BIGINT NOT NULL,
	error LONGTEXT,
	CONSTRAINT pk_system_migration_migration PRIMARY KEY (environment, name),
	CONSTRAINT ck_system_migration_migration_status CHECK (status IN ('PENDING', 'RUNNING', 'PAUSED', 'COMPLETED', 'FAILED', 'SKIPPED', 'ROLLED_BACK'))
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE system_migration_run (
	id VARCHAR(36) NOT NULL,
	environment VARCHAR(64) NOT NULL,
	name VARCHAR(128) NOT NULL,
	kind VARCHAR(16) NOT NULL,
	outcome VARCHAR(16),
	generation INTEGER NOT NULL,
	fence BIGINT NOT NULL,
	code_algorithm VARCHAR(32) NOT NULL,
	code_checksum VARCHAR(64) NOT NULL,
	executed_by VARCHAR(255) NOT NULL,
	host VARCHAR(255) NOT NULL,
	started_at DATETIME(6) NOT NULL,
	finished_at DATETIME(6),
	intent_at DATETIME(6),
	from_key LONGTEXT,
	to_key LONGTEXT,
	held_only BOOL NOT NULL DEFAULT false,
	records_processed BIGINT NOT NULL,
	issues BIGINT NOT NULL,
	error LONGTEXT,
	report LONGTEXT,
	CONSTRAINT pk_system_migration_run PRIMARY KEY (id),
	CONSTRAINT ck_system_migration_run_kind CHECK (kind IN ('run', 'dry-run', 'verify', 'rollback')),
	CONSTRAINT ck_system_migration_run_outcome CHECK (outcome IS NULL OR outcome IN ('succeeded', 'failed', 'refused', 'paused')),
	CONSTRAINT ck_system_migration_run_finished CHECK ((outcome IS NULL) = (finished_at IS NULL))
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_system_migration_run_history ON system_migration_run (environment, name, started_at);

CREATE TABLE system_migration_log (
	id BIGINT NOT NULL AUTO_INCREMENT,
	run_id VARCHAR(36) NOT NULL,
	at DATETIME(6) NOT NULL,
	level VARCHAR(16) NOT NULL,
	message TEXT NOT NULL,
	CONSTRAINT pk_system_migration_log PRIMARY KEY (id),
	CONSTRAINT fk_system_migration_log_run FOREIGN KEY(run_id) REFERENCES system_migration_run (id) ON DELETE CASCADE
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_system_migration_log_run ON system_migration_log (run_id, id);
