"""The command line: parse, call one `Migrator` method, render. It holds no rules about migrations."""
