# Without xlsnap: the lab's PV guest, and that it sees a wrong revert.
cycle_by_hand pv
