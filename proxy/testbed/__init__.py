"""A strict registry and a simulated node: what the demo, the tests and the benchmarks run against."""
