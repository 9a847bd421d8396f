# Without xlsnap: an HVM guest comes back by hand, and sees a wrong revert.
cycle_by_hand hvm
