"""What a longer training gives: clean accuracy of GFZ on MNIST by the number of epochs.

  python launch/sweep.py --config=configs/sweeps/epochs.py:cpu --workdir=runs/epochs
  python launch/report.py --workdirs=runs/epochs --name=clean --file=gfz_epochs \\
    --out=docs/results/mnist

Each length is a training of its own, as the cosine schedule ends with it; on all test images, mean
over two draws. The published accuracy, 98.5% and more, is of 100 epochs and more.
full: 25 to 200 epochs of the paper's protocol; cpu: 6 to 48 of the short one, 1.5 minutes each on
one core.
"""

from ml_collections import ConfigDict

from configs.sweeps import base

FULL, CPU, SMOKE = (25, 50, 100, 200), (6, 12, 24, 48), (1, 2)
EPOCHS = {"": FULL, "full": FULL, "cpu": CPU, "smoke": SMOKE}


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: "" or "full", "cpu", "smoke"."""
  base.check_variant(arg)
  models = {
    f"gfz_{num:02d}_epochs": base.model("configs/gfz_mnist.py", arg, f"train.num_epochs={num}")
    for num in EPOCHS[arg]
  }
  whole = "smoke" if arg == "smoke" else ""
  clean = base.attack("configs/attacks/clean.py", whole, "clean_draws=2")
  return base.get_config(models, {"clean": clean})
