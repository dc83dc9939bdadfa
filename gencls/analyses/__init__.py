"""Analyses of a trained classifier: one a file, each a function of logits, images and labels.

`REGISTRY` has them by name. A new analysis is one file, one line here and one group in
configs/analyses/base.py.
"""

from gencls.analyses import ambiguous, class_gap, interpolation, out_of_distribution, robustness
from gencls.analyses.inputs import Analysis

REGISTRY: dict[str, Analysis] = {
  "interpolation": Analysis(interpolation.analyse, interpolation.figures, interpolation.markdown),
  "class_gap": Analysis(class_gap.analyse, class_gap.figures, class_gap.markdown),
  "ambiguous": Analysis(ambiguous.analyse, ambiguous.figures, ambiguous.markdown),
  "out_of_distribution": Analysis(
    out_of_distribution.analyse,
    out_of_distribution.figures,
    out_of_distribution.markdown,
    depends=out_of_distribution.depends,
  ),
  "robustness": Analysis(
    robustness.analyse,
    robustness.figures,
    robustness.markdown,
    depends=robustness.depends,
    needs_logits=False,
  ),
}
