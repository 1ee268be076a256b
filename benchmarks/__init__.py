"""Benchmarks of Sunflower against its peers; ``benchmarks/README.md`` says how and why."""
