"""Meters: one small class for each source of measurements, with a null object where a device lacks it."""
