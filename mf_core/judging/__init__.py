"""Judging a candidate: figures on test rows, rivals to compare with, and the gate."""
