//! The behaviour suite on the fake world: running, and off.

mod running {
    use xlsnap_testkit::behaviour::{FakeDomain, TestDisk};

    async fn make(disks: &[TestDisk]) -> FakeDomain {
        FakeDomain::new(disks, true)
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
