"""What the scripts that score models, and the result page, have in common."""
