INSERT INTO system_migration_migration (environment, name, version, status, row_version, generation, verified, applied, run_id, upper_bound, pins, max_issues, executed_at, executed_by, finished_at, records_processed, issues, error) VALUES ('test', '000-earlier', '1.0.0', 'COMPLETED', 3, 1, TRUE, FALSE, '00000000-0000-0000-0000-000000000001', '[80]', '{}', NULL, '2026-01-02 03:04:05.000001', 'anna', '2026-01-02 03:05:05.000001', 8, 1, NULL);

INSERT INTO system_migration_migration (environment, name, version, status, row_version, generation, verified, applied, run_id, upper_bound, pins, max_issues, executed_at, executed_by, finished_at, records_processed, issues, error) VALUES ('test', '001-increment', '1.0.0', 'RUNNING', 2, 1, FALSE, FALSE, '00000000-0000-0000-0000-000000000002', '[80]', '{}', NULL, '2026-01-03 03:04:05.000001', 'anna', NULL, 0, 0, NULL);

INSERT INTO system_migration_run (id, environment, name, kind, outcome, generation, fence, code_algorithm, code_checksum, executed_by, host, started_at, finished_at, intent_at, records_processed, issues, error, report) VALUES ('00000000-0000-0000-0000-000000000001', 'test', '000-earlier', 'run', 'succeeded', 1, 1, 'sha256', 'x', 'anna', 'old-host', '2026-01-02 03:04:05.000001', '2026-01-02 03:05:05.000001', NULL, 8, 1, NULL, NULL);

INSERT INTO system_migration_run (id, environment, name, kind, outcome, generation, fence, code_algorithm, code_checksum, executed_by, host, started_at, finished_at, intent_at, records_processed, issues, error, report) VALUES ('00000000-0000-0000-0000-000000000002', 'test', '001-increment', 'run', NULL, 1, 4, 'sha256', 'x', 'anna', 'old-host', '2026-01-03 03:04:05.000001', NULL, NULL, 0, 0, NULL, NULL);

INSERT INTO system_migration_lease (environment, name, holder, held_by, fence, renewed_at, expires_at, takeover_at, released) VALUES ('test', '001-increment', '00000000-0000-0000-0000-00000000000a', 'anna on old-host', 4, '2026-01-03 03:04:05.000001', '2026-01-03 03:04:35.000001', '2026-01-03 03:04:40.000001', FALSE);

INSERT INTO system_migration_ledger (environment, name, generation, pass, "range", last_range, batches, run_id, attempt, lower, upper, rows_read, changed, unchanged, held, vanished, deferred, deferred_keys, seconds, committed_at) VALUES ('test', '001-increment', 1, 1, 1, 1, 1, '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-0000000000b1', NULL, '[20]', 2, 2, 0, 0, 0, 0, NULL, 0.25, '2026-01-03 03:04:06.000001');

INSERT INTO system_migration_ledger (environment, name, generation, pass, "range", last_range, batches, run_id, attempt, lower, upper, rows_read, changed, unchanged, held, vanished, deferred, deferred_keys, seconds, committed_at) VALUES ('test', '001-increment', 1, 1, 3, 3, 1, '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-0000000000b3', '[40]', '[60]', 2, 2, 0, 0, 0, 0, NULL, 0.25, '2026-01-03 03:04:07.000001');

INSERT INTO system_migration_issue (environment, name, generation, key_digest, "key", code, message, run_id, at) VALUES ('test', '000-earlier', 1, 'd', '[30]', 'bad', 'for a reason', '00000000-0000-0000-0000-000000000001', '2026-01-02 03:04:06.000001');

INSERT INTO system_migration_event (environment, name, run_id, at, action, actor, host, detail) VALUES ('test', '000-earlier', '00000000-0000-0000-0000-000000000001', '2026-01-02 03:05:05.000001', 'completed', 'anna', 'old-host', '{}');

INSERT INTO system_migration_log (run_id, at, level, message) VALUES ('00000000-0000-0000-0000-000000000001', '2026-01-02 03:05:05.000001', 'INFO', 'done');
