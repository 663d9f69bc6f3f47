"""Runs and predictions -> a local web page to look at them on."""
