// PM2: `pm2 start deploy/ecosystem.config.js --env production` on the host, or `pm2 deploy` from elsewhere.
//
// The specification's sketch has `pre_deploy: 'npm run migration:run'` in `apps`. PM2 has no such key there and drops
// it without a word, so the migrations would never run. Its intent is kept twice: deploy/start.sh migrates before
// it becomes the server, whoever starts it, and `pm2 deploy` migrates before it restarts anything.
const path = require('node:path');

module.exports = {
  apps: [
    {
      name: 'ante-backend',
      cwd: path.resolve(__dirname, '..'),
      script: 'deploy/start.sh',
      // The script is a program of its own. It ends in `exec`, so the process that PM2 watches and stops is the server.
      interpreter: 'none',
      exec_mode: 'fork',
      instances: 1,
      env: {
        RUN_MIGRATIONS_ON_STARTUP: 'true',
        AUTO_MIGRATE: 'false',
      },
      env_production: {
        MIGRATION_ENVIRONMENT: 'production',
      },
      // PM2 asks with SIGINT. A run finishes the batches in flight, a server its requests; PM2's 1.6 s are too few.
      kill_timeout: 30000,
      exp_backoff_restart_delay: 100,
    },
  ],

  deploy: {
    production: {
      user: process.env.DEPLOY_USER || 'ante',
      host: process.env.DEPLOY_HOST || 'localhost',
      repo: process.env.DEPLOY_REPO || '.',
      path: process.env.DEPLOY_PATH || '/srv/ante-backend',
      ref: process.env.DEPLOY_REF || 'origin/main',
      // Not 'pre-deploy': that hook runs before the new code is there. A migration that fails ends the deployment here,
      // with the old server still running. The variables are in a file on the host, shared/environment beside the code.
      // (No quotes in a hook: PM2 hands it on between two of them.)
      'post-deploy': [
        'set -a && . ../shared/environment && set +a',
        'scripts/setup',
        '.venv/bin/migration run --yes --wait',
        'pm2 startOrRestart deploy/ecosystem.config.js --env production',
      ].join(' && '),
    },
  },
};
