"""Tuning: the highest load that stays VALID, and engine settings for this GPU."""
