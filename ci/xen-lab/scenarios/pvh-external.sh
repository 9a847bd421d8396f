# The same of a PVH guest, whose memory is saved while it runs, where one boots.
if boots_pvh; then
    guest pvh load
    external_memory_cycle
fi
