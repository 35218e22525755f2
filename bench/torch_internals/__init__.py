"""All private names of torch that bench needs, with a probe that fails loudly. Imports nothing of bench."""
