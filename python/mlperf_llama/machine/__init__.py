"""What this machine is: the GPUs, the table of GPUs, the roofline, the system record, health."""
