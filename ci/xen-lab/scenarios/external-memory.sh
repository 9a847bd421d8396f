# External snapshots of a running PV guest with its memory: it goes on from there, back and forth between two.
guest pv load
external_memory_cycle
