# Without xlsnap: the lab's HVM guest, and that it sees a wrong revert.
cycle_by_hand hvm
