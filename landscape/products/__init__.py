"""Engines for products of a curvature matrix with vectors: recorded and folded, compiled, recomputing, differences."""
