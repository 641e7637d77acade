"""The order of a run: created, planned, executed, resumed, finalized. What it calls upward is handed to it."""
