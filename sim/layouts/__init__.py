"""Layout families: spaces drawn from a seed, and the splits that keep training and test spaces apart."""
