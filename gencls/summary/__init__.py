"""From result cells to numbers: worst cases, detection, sanity checks, per-example columns."""
