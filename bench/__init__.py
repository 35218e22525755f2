"""The measuring harness around etad, and the etad-bench command line. Imports etad."""
