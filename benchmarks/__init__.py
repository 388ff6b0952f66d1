"""Commands that measure goldless; run each with `python -m benchmarks.<name>`."""
