"""What scripts/benchmark.py and bench_network.py are made of, and share with the other measuring scripts."""
