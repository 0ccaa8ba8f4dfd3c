"""Ratings and attributes as arrays, their split, and the checksummed artifacts that hold them."""
