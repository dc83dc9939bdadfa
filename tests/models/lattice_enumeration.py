"""All states of a small lattice in NumPy, written from the definitions: for the tests of fields."""

import itertools

import numpy as np


def states(height, width):
  """[2^(H W), H, W] of ±1."""
  every = itertools.product((-1.0, 1.0), repeat=height * width)
  return np.asarray(list(every)).reshape(-1, height, width)


def edges(height, width):
  """Pairs of neighbouring pixels: ((i, j), (i', j')), and where θ of the edge is kept."""
  for i, j in itertools.product(range(height), range(width)):
    if j + 1 < width:
      yield (i, j), (i, j + 1), "right"
    if i + 1 < height:
      yield (i, j), (i + 1, j), "down"


def energies(s, unary, right, down):
  """E(s) of every state, by loops over pixels and edges."""
  height, width = unary.shape
  total = np.zeros(len(s))
  for i, j in itertools.product(range(height), range(width)):
    total -= unary[i, j] * s[:, i, j]
  for a, b, kind in edges(height, width):
    theta = {"right": right, "down": down}[kind][a]
    total -= theta * s[:, a[0], a[1]] * s[:, b[0], b[1]]
  return total


def boltzmann(energy):
  """(probabilities, log Z)."""
  log_z = np.log(np.sum(np.exp(-energy)))
  return np.exp(-energy - log_z), log_z


def conditionals(probability, s):
  """p(s_i | all others) of every state and pixel, [N, H, W], from the joint distribution alone."""
  index = {tuple(state.ravel()): n for n, state in enumerate(s)}
  out = np.zeros(s.shape)
  for n, state in enumerate(s):
    for at in np.ndindex(state.shape):
      other = state.copy()
      other[at] *= -1
      flipped = probability[index[tuple(other.ravel())]]
      out[n][at] = probability[n] / (probability[n] + flipped)
  return out
