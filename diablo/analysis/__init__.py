"""Checks and analyses of trained models."""
