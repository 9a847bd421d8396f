# An HVM guest.
guest hvm
memory_cycle
