"""Tables and figures, made from result cells and never typed."""
