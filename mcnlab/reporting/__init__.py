"""Figures, notebooks and pages, made from run folders alone; never imports torch."""
