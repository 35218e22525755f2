"""Measuring one cell in the present process: memory, time, energy, where the time goes. Imports predict and below."""
