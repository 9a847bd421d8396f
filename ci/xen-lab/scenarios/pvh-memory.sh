# A PVH guest whose memory changes all the time.
guest pvh load
memory_cycle
