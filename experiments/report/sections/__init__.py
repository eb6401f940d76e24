"""Sections of the report: cards with plots and tables."""
