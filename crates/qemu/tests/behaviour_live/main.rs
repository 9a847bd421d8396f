//! The behaviour suite on real programs: while a domain runs, on qemu-system or qemu-storage-daemon through the live
//! adapter; while it is off, on its images through the offline one.
#![expect(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod domain;

mod machine {
    use xlsnap_testkit::behaviour::TestDisk;
    use xlsnap_testkit::real::Attach;

    use crate::domain::{Domain, Program};

    async fn make(disks: &[TestDisk]) -> Domain {
        Domain::new(disks, Program::Machine(Attach::Blockdev))
    }

    xlsnap_testkit::behaviour_suite!(make);
}

mod machine_with_drives {
    use xlsnap_testkit::behaviour::TestDisk;
    use xlsnap_testkit::real::Attach;

    use crate::domain::{Domain, Program};

    async fn make(disks: &[TestDisk]) -> Domain {
        Domain::new(disks, Program::Machine(Attach::Drive))
    }

    xlsnap_testkit::behaviour_suite!(make);
}

mod storage_daemon {
    use xlsnap_testkit::behaviour::TestDisk;

    use crate::domain::{Domain, Program};

    async fn make(disks: &[TestDisk]) -> Domain {
        Domain::new(disks, Program::StorageDaemon)
    }

    xlsnap_testkit::behaviour_suite!(make);
}
