#!/bin/sh
# Migrates, then becomes the server: `exec` keeps the process, so whoever watches it signals the server itself.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

# Starting this script is the decision to migrate, in production too, and for as long as a day. Not `migration run`: this
# is also what a restart after a crash does, and there what failed is left to a person, and the server starts all the same.
RUN_MIGRATIONS_ON_STARTUP=true AUTO_MIGRATE=true ALLOW_PRODUCTION_AUTO_MIGRATE=true MIGRATION_STARTUP_SECONDS=86400 \
  migration startup
exec python -m ante_backend
