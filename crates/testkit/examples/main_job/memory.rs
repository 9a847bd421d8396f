//! A snapshot with memory, of a Linux guest that compares its disks with its memory.

use std::fs;
use std::time::Duration;

use xlsnap_testkit::real::guest::{Boot, Console, Count};
use xlsnap_testkit::real::wait_until;

use super::place::{Place, Step, say};

/// For the guest to boot, or to count a little.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) fn job(place: &Place) -> Step {
    say("A machine whose file says how it is started; its guest counts, in its memory and on both disks.");
    println!("$ cd {}", place.directory.display());
    println!("$ export XLSNAP_ROOT=$PWD/records");
    for disk in ["vda.qcow2", "vdb.qcow2"] {
        place.typed(&["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"])?;
    }
    place.typed(&["xlsnap", "domain", "add", "web", "--disk", "vda=vda.qcow2", "--disk", "vdb=vdb.qcow2"])?;
    let serial = place.directory.join("console");
    let start = Boot::new(Count::default()).start_table(&serial);
    let file = place.directory.join("records/domains/web.toml");
    println!("$ cat >> {} <<END\n\n[start]\n{}END", file.display(), start);
    let described = fs::read_to_string(&file)?;
    fs::write(&file, format!("{described}\n[start]\n{start}"))?;
    let mut console = Console::from_now(&serial);
    let started = place.typed(&["xlsnap", "domain", "start", "web"]);
    let result = started.and_then(|_| there_and_back(place, &mut console));
    place.typed(&["xlsnap", "domain", "stop", "web", "--powerdown", "0"])?;
    result
}

fn there_and_back(place: &Place, console: &mut Console) -> Step {
    let before = console.wait_tick_beyond(20, DEADLINE);
    println!("(console) tick {before}");

    say("A snapshot of its disks and its memory at one instant, while it runs.");
    place.typed(&["xlsnap", "create", "web", "before-upgrade", "--memory"])?;
    let after = console.last_tick().unwrap_or(before);
    let later = console.wait_tick_beyond(after + 40, DEADLINE);
    println!("(console) tick {later}");

    say("Back: it goes on from there, and finds its disks as it remembers them.");
    console.forget();
    place.typed(&["xlsnap", "revert", "web", "before-upgrade"])?;
    let first = wait_until("the guest goes on from the snapshot", || {
        let first = *console.runs().pop()?.start();
        (first < later).then_some(first)
    });
    println!("(console) tick {first}");
    if !(before..=after + 2).contains(&first) {
        return Err(format!("it was saved between {before} and {after}, and goes on at {first}").into());
    }
    console.wait_tick_beyond(first + 20, DEADLINE);
    if let Some(complaint) = console.disagreement() {
        return Err(format!("the guest says: {complaint}").into());
    }
    place.typed(&["xlsnap", "delete", "web", "before-upgrade"])?;
    Ok(())
}
