"""GFZ, DFX and the CNN on the embedded digits × FGSM and PGD × 2 seeds.

  python launch/sweep.py --config=configs/sweeps/digits.py --workdir=runs/digits
  python launch/report.py --workdirs=runs/digits --name=fgsm_pgd --out=runs/digits/report

12 cells, a few minutes on 2 cores. smoke: GFZ and the CNN, one seed, a few steps: most of its
minute of CPU time is starting Python and compiling.
"""

from ml_collections import ConfigDict

from configs.sweeps import base


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "", "full" or "cpu" (100 test images), "smoke"."""
  base.check_variant(arg)
  names, seeds = (("gfz", "cnn"), (0,)) if arg == "smoke" else (("gfz", "dfx", "cnn"), (0, 1))
  attacks = {"fgsm_pgd": base.attack("configs/attacks/fgsm_pgd_digits.py", arg)}
  return base.get_config(base.grid(names, ("digits",), arg), attacks, seeds=seeds)
