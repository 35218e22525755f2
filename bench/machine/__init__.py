"""What this machine is and can tell: environment, GPUs, clocks, energy, processes. Imports the ground of bench."""
