"""What scripts/benchmark.py is made of, and what it shares with the other measuring scripts."""
