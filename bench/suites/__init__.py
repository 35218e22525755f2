"""From a cell to its record: every suite of measurements, in a process a cell. Imports measure, compare and below."""
