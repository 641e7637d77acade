"""What the measuring process is made of, beyond its code: environment variables, start files, packages.

variables  which variables are recorded, and which of them may change a result
startup    folders, start files and libraries that came in before our code
installed  all that is installed in the environment, against the wheels' file lists and the lock files
examine    the process that hashes both
packages   where vLLM, PyTorch, LoadGen and this package came from, against their wheels' file lists
"""
