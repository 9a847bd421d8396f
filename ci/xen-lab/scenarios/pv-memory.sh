# A PV guest whose memory changes all the time.
guest pv load
memory_cycle
