#!/bin/sh
# Migrates, then becomes the server. One process from the first to the last, as every step is an `exec`: whoever watches
# it signals the migration itself while that goes on, which ends at a clean checkpoint, and the server afterwards.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

# Starting this script is the decision to migrate, in production too, however long it takes. Not `migration run`: this
# is also what a restart after a crash does, and there what failed is left to a person, and the server starts all the same.
# The server itself only looks; while a migration that blocks it has not ended, it answers /health and lets people log in.
exec env RUN_MIGRATIONS_ON_STARTUP=true AUTO_MIGRATE=true ALLOW_PRODUCTION_AUTO_MIGRATE=true \
  migration startup --server-holds -- env -u ALLOW_PRODUCTION_AUTO_MIGRATE AUTO_MIGRATE=false python -m ante_backend
