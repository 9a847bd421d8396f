//! A domain with an encrypted disk is started with the disk's key.

use xlsnap_orchestrator::{Disks, Power, Run};
use xlsnap_qemu::DiskSpec;
use xlsnap_testkit::real::{Scratch, qemu_img};
use xlsnap_types::model::ImageFormat;

use crate::rig::{Rig, spec};

#[tokio::test]
async fn qemu_is_given_the_key_of_an_encrypted_disk() {
    let scratch = Scratch::new();
    let key = scratch.path("a,key");
    std::fs::write(&key, "open sesame").unwrap();
    let secret = format!("secret,id=s,file={}", key.to_str().unwrap().replace(',', ",,"));
    let made = |name: &str, format: &str, options: &str| {
        let image = scratch.path(name);
        let file = image.to_str().unwrap();
        qemu_img(&["create", "-q", "--object", &secret, "-f", format, "-o", options, file, "1M"]);
        image
    };
    let qcow2 = made("vda.qcow2", "qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10");
    let luks = made("vdb.luks", "luks", "key-secret=s,iter-time=10");
    let with_key = |name: &str, image| DiskSpec { key_file: Some(key.clone()), ..spec(name, image) };
    let raw = DiskSpec { format: ImageFormat::from_driver("luks"), ..with_key("vdb", &luks) };
    let rig = Rig::of(Scratch::new(), vec![with_key("vda", &qcow2), raw]);

    let machine = rig.started().await;
    let disks = machine.inventory().await.unwrap().disks;
    assert_eq!(disks.iter().map(|disk| disk.encrypted).collect::<Vec<_>>(), [true, true]);
    machine.end().await.unwrap();
    machine.start(Run::Waits).await.unwrap();
    machine.end().await.unwrap();
}
