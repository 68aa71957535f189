"""One script per claim in the README's performance table: `python -m benchmarks.NAME [--json]`."""
