"""Drives an engine with LoadGen, which runs in a child process of its own.

plan    how long a run is, by LoadGen's arithmetic, and its user.conf
link    the frames between the two processes
child   LoadGen's process, the only importer of mlperf_loadgen
process the child as the engine's process sees it: files, start, end
relay   the timed path between the link and the engine
timeline when each request came, began and ended
sofar   how a run stands: requests, latencies, the time it still takes
drive   one run: starts the child, feeds the engine, reports progress
logs    reads LoadGen's detail log
accuracy_log reads its accuracy log
"""
