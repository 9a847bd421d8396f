//! Overlays without data that are made since a record names one: xlsnap is killed from the start of the program that makes the last
//! to the end of the operation.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::host::Host;
use crate::kills::Whole;
use crate::layers_crash::Web;

const MIB: u64 = 1 << 20;

/// Who may use the images, and with that who may use the overlays.
const MODE: u32 = 0o640;

/// A domain that is off and writes to overlays; snapshot `inside` is in what they stand on, and the record of `external` names them.
fn ready() -> Web {
    let mut web = Web::on(Host::new(), MIB);
    for image in web.images() {
        std::fs::set_permissions(image, PermissionsExt::from_mode(MODE)).unwrap();
    }
    web.write_offline(1);
    web.create("inside", &[]);
    web.write_offline(2);
    web.create("external", &["--external", "vda", "--external", "vdb"]);
    web.write_offline(3);
    web
}

fn is_well(web: &Web, now: u8, about: &str) {
    let check = web.host.run(["check", "web"]);
    assert_eq!(check.code, 0, "{about}: {check:?}");
    web.assert_held(about);
    let shown = web.host.json(&["show", "web", "external"]);
    for part in shown["snapshot"]["disks"].as_array().unwrap() {
        let overlay = Path::new(part["file"].as_str().unwrap());
        let mode = std::fs::metadata(overlay).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, MODE, "{about}: {}", overlay.display());
    }
    assert!(web.reads(now), "{about}");
    web.host.run(["revert", "web", "external"]).ok();
    assert!(web.reads(2), "{about}");
}

/// Kills an operation before each of its last calls.
fn is_killed(words: &[&str], now: u8) {
    let web = ready();
    let whole = Whole::of(&web.host, words);
    is_well(&web, now, "not killed");
    let calls = whole.since_last_program();
    assert!(calls.iter().any(|call| call.is("fchmod")), "the last program makes an overlay: {calls:?}");
    // How often it waits for a program is not the same in each run.
    for call in calls.iter().filter(|call| !call.is("epoll_wait")) {
        let web = ready();
        call.kill(&web.host, words);
        let recovered = web.host.run(["recover", "web"]);
        let about = format!("{call:?}: {recovered:?}");
        assert_eq!(recovered.code, 0, "{about}");
        is_well(&web, now, &about);
    }
}

#[test]
fn an_overlay_that_is_made_anew_has_its_access_whenever_that_is_cut_short() {
    is_killed(&["revert", "web", "inside"], 1);
}

#[test]
fn an_overlay_that_a_flattening_makes_has_its_access_whenever_that_is_cut_short() {
    is_killed(&["flatten", "web"], 3);
}
