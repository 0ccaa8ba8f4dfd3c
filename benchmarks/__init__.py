"""Measurements against other methods. Nothing here is a test: see README.md beside this file."""
