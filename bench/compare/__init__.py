"""Comparing two sets of records; judging revisions, baselines, predictions. Imports predict and below."""
