"""Every bad input. `benchmarks/bad_inputs.py` writes down what becomes of each."""

import bad_analyses
import bad_data
import bad_evaluations
import bad_images
import bad_results
import bad_runs
import bad_training
from bad_input import outcome

__all__ = ["CASES", "outcome"]

MODULES = (bad_training, bad_evaluations, bad_analyses, bad_images, bad_data, bad_results, bad_runs)
CASES = [case for module in MODULES for case in module.CASES]
