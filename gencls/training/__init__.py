"""The parts of training: steps, the loop over them, settings. `gencls.train` puts them together."""
