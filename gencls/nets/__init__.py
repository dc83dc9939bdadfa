"""Flax modules: encoders, decoders, heads; no maths of the models."""
