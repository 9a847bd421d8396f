//! The behaviour suite on the fake backend: running, running with a machine that can be handled, and off.

mod running {
    use xlsnap_testkit::behaviour::{FakeDomain, TestDisk};

    async fn make(disks: &[TestDisk]) -> FakeDomain {
        FakeDomain::new(disks, true)
    }

    xlsnap_testkit::behaviour_suite!(make);
}

mod machine {
    use xlsnap_testkit::behaviour::{FakeDomain, TestDisk};

    async fn make(disks: &[TestDisk]) -> FakeDomain {
        FakeDomain::with_machine(disks)
    }

    xlsnap_testkit::behaviour_suite!(make);
}

mod off {
    use xlsnap_testkit::behaviour::{FakeDomain, TestDisk};

    async fn make(disks: &[TestDisk]) -> FakeDomain {
        FakeDomain::new(disks, false)
    }

    xlsnap_testkit::behaviour_suite!(make);
}
