"""The seven factorisations of p(x, y, z) as data: each node with its parents.

G: generative (x has parents), D: discriminative; F: fully connected graph, B: bottleneck (x and y
meet only in z). From these tables `latent.py` builds
log p(x, y, z) = Σ_nodes log p(node | parents).

References:
  Li, Bradshaw, Sharma 2019, arXiv:1802.06552, section 3.
"""

Parents = dict[str, tuple[str, ...]]

FACTORISATIONS: dict[str, Parents] = {
  "gfz": {"z": (), "y": ("z",), "x": ("z", "y")},
  "gfy": {"y": (), "z": ("y",), "x": ("z", "y")},
  "gbz": {"z": (), "y": ("z",), "x": ("z",)},
  "gby": {"y": (), "z": ("y",), "x": ("z",)},
  "dfx": {"x": (), "z": ("x",), "y": ("x", "z")},
  "dfz": {"z": (), "x": ("z",), "y": ("x", "z")},
  "dbx": {"x": (), "z": ("x",), "y": ("z",)},
}

# Hidden layers of p(y | z): the authors' code gives GBZ, whose y sees x only through z, two.
Y_HIDDEN_LAYERS = {"gbz": 2}
