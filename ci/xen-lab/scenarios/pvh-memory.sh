# A PVH guest whose memory changes all the time, where one boots.
if boots_pvh; then
    guest pvh load
    memory_cycle
fi
