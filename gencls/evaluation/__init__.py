"""Attack and grade: cells, grades, and what lies on disk. `gencls.evaluate` runs them."""
