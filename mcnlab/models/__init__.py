"""Towers, graphs and the small networks round them: plain sizes in, tensors out."""
