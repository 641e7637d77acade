"""The order of a run: created, planned, executed, resumed, finalized; what lies above is handed to it."""
