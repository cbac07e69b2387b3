"""One script per figure or table, the calibration, and the benchmarks. They use public names only."""
