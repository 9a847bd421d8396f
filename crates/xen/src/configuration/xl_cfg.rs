//! From libxl's JSON to `xl.cfg(5)`.
//!
//! `xl create` reads nothing else (4.17, 4.20), and libxl does not keep what it read. What libxl writes as JSON when xl sets it from a key
//! of xl.cfg is written as that key again; what is not known here is refused.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use uuid::Uuid;

type Object = Map<String, Value>;

/// A setting that is not written because it says nothing: what xl sets by itself, or what libxl fills in.
const SILENT: &[&str] = &[
    "c_info.domid",
    "c_info.run_hotplug_scripts",
    "c_info.passthrough=disabled",
    "c_info.xend_suspend_evtchn_compat=False",
    "b_info.claim_mode",
    "b_info.arch_arm",
    "b_info.arch_x86",
    "b_info.type.pv.features",
    "b_info.device_model_user",
    "b_info.exec_ssidref=0",
    "b_info.type.hvm.rdm",
    "b_info.type.hvm.sdl",
    "b_info.type.hvm.spice",
    "b_info.type.hvm.bios=seabios",
    "b_info.type.hvm.hdtype=ide",
    "disks.colo_restore_enable=False",
    "nics.colo_ft_forward_bridge",
];

/// Settings that are numbers or words, and their keys in xl.cfg.
const PLAIN: &[(&str, &str)] = &[
    ("c_info.type", "type"),
    ("c_info.pool_name", "pool"),
    ("b_info.max_vcpus", "maxvcpus"),
    ("b_info.kernel", "kernel"),
    ("b_info.cmdline", "cmdline"),
    ("b_info.ramdisk", "ramdisk"),
    ("b_info.bootloader", "bootloader"),
    ("b_info.sched_params.weight", "cpu_weight"),
    ("b_info.sched_params.cap", "cap"),
    ("b_info.rtc_timeoffset", "rtc_timeoffset"),
    ("b_info.type.hvm.boot", "boot"),
    ("b_info.type.hvm.serial", "serial"),
    ("b_info.type.hvm.firmware", "bios"),
    ("b_info.type.hvm.usbdevice", "usbdevice"),
    ("b_info.type.hvm.vnc.listen", "vnclisten"),
    ("b_info.type.hvm.vnc.passwd", "vncpasswd"),
    ("b_info.type.hvm.vnc.display", "vncdisplay"),
    ("b_info.type.hvm.keymap", "keymap"),
    ("on_poweroff", "on_poweroff"),
    ("on_reboot", "on_reboot"),
    ("on_watchdog", "on_watchdog"),
    ("on_crash", "on_crash"),
    ("on_soft_reset", "on_soft_reset"),
];

/// Settings that are on or off.
const SWITCHES: &[(&str, &str)] = &[
    ("c_info.hap", "hap"),
    ("c_info.oos", "oos"),
    ("c_info.driver_domain", "driver_domain"),
    ("b_info.localtime", "localtime"),
    ("b_info.disable_migrate", "nomigrate"),
    ("b_info.nested_hvm", "nestedhvm"),
    ("b_info.apic", "apic"),
    ("b_info.arch_x86.msr_relaxed", "msr_relaxed"),
    ("b_info.type.pv.e820_host", "e820_host"),
    ("b_info.type.hvm.pae", "pae"),
    ("b_info.type.hvm.apic", "apic"),
    ("b_info.type.hvm.acpi", "acpi"),
    ("b_info.type.hvm.acpi_s3", "acpi_s3"),
    ("b_info.type.hvm.acpi_s4", "acpi_s4"),
    ("b_info.type.hvm.nx", "nx"),
    ("b_info.type.hvm.viridian", "viridian"),
    ("b_info.type.hvm.hpet", "hpet"),
    ("b_info.type.hvm.pirq", "hvm_pirq"),
    ("b_info.type.hvm.vpt_align", "vpt_align"),
    ("b_info.type.hvm.nested_hvm", "nestedhvm"),
    ("b_info.type.hvm.nographic", "nographic"),
    ("b_info.type.hvm.usb", "usb"),
    ("b_info.type.hvm.xen_platform_pci", "xen_platform_pci"),
    ("b_info.type.hvm.vnc.enable", "vnc"),
    ("b_info.type.hvm.vnc.findunused", "vncunused"),
];

/// Settings that are lists of words.
const LISTS: &[(&str, &str)] = &[
    ("b_info.bootloader_args", "bootloader_args"),
    ("b_info.extra", "device_model_args"),
    ("b_info.extra_pv", "device_model_args_pv"),
    ("b_info.extra_hvm", "device_model_args_hvm"),
];

/// Sizes of which libxl has KiB and xl.cfg MiB.
const SIZES: &[(&str, &str)] = &[
    ("b_info.max_memkb", "maxmem"),
    ("b_info.target_memkb", "memory"),
    ("b_info.video_memkb", "videoram"),
    ("b_info.shadow_memkb", "shadow_memory"),
];

pub(super) fn write(configuration: &Object, name: &str, uuid: Uuid) -> Result<String, String> {
    let mut text = String::new();
    line(&mut text, "name", &quoted(name)?);
    line(&mut text, "uuid", &quoted(&uuid.to_string())?);
    let mut plain = Vec::new();
    for (key, value) in configuration {
        match (key.as_str(), value) {
            ("disks", Value::Array(disks)) => list(&mut text, "disk", disks, disk)?,
            ("nics", Value::Array(nics)) => list(&mut text, "vif", nics, nic)?,
            _ => leaves(key, value, &mut plain),
        }
    }
    let pv = plain.iter().any(|(key, value)| key == "c_info.type" && *value != "hvm");
    for (key, value) in plain {
        setting(&mut text, &key, value, pv)?;
    }
    Ok(text)
}

/// The values below `value` that are no objects, each with its path.
fn leaves<'a>(key: &str, value: &'a Value, into: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(word, value)| leaves(&format!("{key}.{word}"), value, into))
        }
        Value::Null => {}
        _ => into.push((key.to_owned(), value)),
    }
}

fn setting(text: &mut String, key: &str, value: &Value, pv: bool) -> Result<(), String> {
    let cannot = || format!("its configuration has {key} = {value}, which cannot be written for `xl create`");
    let named = |table: &[(&str, &'static str)]| table.iter().find(|(of, _)| *of == key).map(|(_, key)| *key);
    match key {
        "c_info.name" | "c_info.uuid" => {}
        "b_info.avail_vcpus" => {
            // The processors that are on at the start: xl gives a number, and they are the first ones.
            let on: Vec<u64> =
                value.as_array().ok_or_else(cannot)?.iter().filter_map(Value::as_u64).collect();
            if on.is_empty() || on.iter().zip(0..).any(|(on, expected)| *on != expected) {
                return Err(cannot());
            }
            line(text, "vcpus", &on.len().to_string());
        }
        "b_info.device_model_version" => {
            line(text, "device_model_version", &quoted(&word(value).ok_or_else(cannot)?.replace('_', "-"))?);
        }
        // Which scheduler it is is the pool's business.
        "b_info.sched_params.sched" => {}
        "b_info.video_memkb" if pv || value.as_i64().is_some_and(|kib| kib <= 0) => {}
        "b_info.type.hvm.vga.kind" => match value.as_str() {
            Some(kind @ ("none" | "qxl" | "cirrus")) => line(text, "vga", &quoted(kind)?),
            Some("std") => line(text, "vga", "\"stdvga\""),
            _ => return Err(cannot()),
        },
        _ if LISTS.iter().any(|(of, _)| *of == key) => {
            let words = value.as_array().ok_or_else(cannot)?.iter().map(word).collect::<Option<Vec<_>>>();
            let words =
                words.ok_or_else(cannot)?.iter().map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?;
            let key = LISTS.iter().find(|(of, _)| *of == key).map_or(key, |(_, key)| *key);
            line(text, key, &format!("[{}]", words.join(", ")));
        }
        _ => {
            if let Some(key) = named(SWITCHES) {
                line(text, key, if switch(value).ok_or_else(cannot)? { "1" } else { "0" });
            } else if let Some(key) = named(SIZES) {
                let kib = value.as_u64().filter(|kib| kib % 1024 == 0).ok_or_else(cannot)?;
                line(text, key, &(kib / 1024).to_string());
            } else if let Some(key) = named(PLAIN) {
                match value {
                    Value::Number(number) => line(text, key, &number.to_string()),
                    // The words of `on_crash` and its like have dashes in xl.cfg, and underscores in JSON.
                    Value::String(of) if key.starts_with("on_") => {
                        line(text, key, &quoted(&of.replace('_', "-"))?)
                    }
                    Value::String(of) => line(text, key, &quoted(of)?),
                    _ => return Err(cannot()),
                }
            } else if !is_silent(key, value) {
                return Err(cannot());
            }
        }
    }
    Ok(())
}

fn is_silent(key: &str, value: &Value) -> bool {
    SILENT.iter().any(|silent| match silent.split_once('=') {
        Some((of, expected)) => of == key && word(value).as_deref() == Some(expected),
        None => key.strip_prefix(silent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
    })
}

fn list(
    text: &mut String,
    key: &str,
    of: &[Value],
    one: fn(&Object) -> Result<String, String>,
) -> Result<(), String> {
    let mut written = Vec::with_capacity(of.len());
    for value in of {
        let map =
            value.as_object().ok_or_else(|| format!("its configuration has a {key} that is no object"))?;
        written.push(quoted(&one(map)?)?);
    }
    line(text, key, &format!("[{}]", written.join(", ")));
    Ok(())
}

/// `xl-disk-configuration(5)`. The target comes last: it may have commas.
fn disk(disk: &Object) -> Result<String, String> {
    let mut words = Vec::new();
    let mut target = String::new();
    let mut access = "ro";
    for (key, value) in disk {
        let cannot = || {
            format!(
                "its configuration has a disk with {key} = {value}, which cannot be written for `xl create`"
            )
        };
        let plain = || word(value).filter(|word| !word.contains(',')).ok_or_else(cannot);
        match key.as_str() {
            "pdev_path" => target = word(value).ok_or_else(cannot)?,
            "vdev" => words.push(format!("vdev={}", plain()?)),
            "backend" => words.push(format!("backendtype={}", plain()?)),
            "format" => words.push(format!("format={}", plain()?)),
            "script" => words.push(format!("script={}", plain()?)),
            "backend_domname" => words.push(format!("backend={}", plain()?)),
            "readwrite" => access = if switch(value).ok_or_else(cannot)? { "rw" } else { "ro" },
            "is_cdrom" if switch(value).ok_or_else(cannot)? => words.push("devtype=cdrom".to_owned()),
            // A CD-ROM is removable by itself.
            "is_cdrom" | "removable" => {}
            "direct_io_safe" if switch(value).ok_or_else(cannot)? => words.push("direct-io-safe".to_owned()),
            "direct_io_safe" => {}
            "discard_enable" => {
                words.push(
                    if switch(value).ok_or_else(cannot)? { "discard" } else { "no-discard" }.to_owned(),
                );
            }
            _ if is_silent(&format!("disks.{key}"), value) => {}
            _ => return Err(cannot()),
        }
    }
    words.push(format!("access={access}"));
    words.push(format!("target={target}"));
    Ok(words.join(","))
}

/// `xl-network-configuration(5)`.
fn nic(nic: &Object) -> Result<String, String> {
    let mut words = Vec::new();
    for (key, value) in nic {
        let cannot = || {
            format!(
                "its configuration has a network card with {key} = {value}, which cannot be written for `xl create`"
            )
        };
        let plain = || word(value).filter(|word| !word.contains(',')).ok_or_else(cannot);
        match key.as_str() {
            "devid" => {}
            "mac" | "bridge" | "model" | "script" | "ip" | "mtu" => words.push(format!("{key}={}", plain()?)),
            "ifname" => words.push(format!("vifname={}", plain()?)),
            "backend_domname" => words.push(format!("backend={}", plain()?)),
            "nictype" => match plain()?.as_str() {
                "vif" => words.push("type=vif".to_owned()),
                "vif_ioemu" => words.push("type=ioemu".to_owned()),
                _ => return Err(cannot()),
            },
            _ if is_silent(&format!("nics.{key}"), value) => {}
            _ => return Err(cannot()),
        }
    }
    Ok(words.join(","))
}

fn line(text: &mut String, key: &str, value: &str) {
    writeln!(text, "{key} = {value}").expect("a string takes all that is written");
}

/// A string as xl's lexer reads it: no `"` within, and `\\` before what it means otherwise (libxlu_cfg_l.l).
fn quoted(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err(format!("its configuration has {text:?}, and xl.cfg takes no control characters"));
    }
    Ok(format!("\"{}\"", text.replace('\\', r"\\").replace('"', r"\x22")))
}

/// A number or a word.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(of) => Some(of.to_string()),
        _ => None,
    }
}

/// libxl writes a `bool` as 1 and a `libxl_defbool` as a word.
fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(of) => Some(*of),
        Value::Number(number) => number.as_u64().map(|number| number != 0),
        Value::String(word) => match word.as_str() {
            "True" => Some(true),
            "False" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Configuration;
    use uuid::Uuid;

    /// Recorded: `xl list -l` of Xen 4.17.
    const PV: &str = include_str!("../../tests/recorded/pv1-list-l.json");
    const HVM: &str = include_str!("../../tests/recorded/hvm1-list-l.json");

    const UUID: Uuid = Uuid::from_u128(0x0a77_3310_ff4b_4ec6_a93c_577d_088a_20d1);

    fn written(text: &str) -> Result<String, String> {
        Configuration::parse(text).unwrap().to_xl_cfg("a name", UUID)
    }

    #[test]
    fn a_pv_guest_is_written_as_it_was_described() {
        let expected = r#"name = "a name"
uuid = "0a773310-ff4b-4ec6-a93c-577d088a20d1"
disk = ["backendtype=qdisk,format=qcow2,vdev=xvda,access=rw,target=/lab/pv1-a.qcow2", "backendtype=qdisk,format=qcow2,vdev=xvdb,access=rw,target=/lab/pv1-b.qcow2"]
msr_relaxed = 0
vcpus = 1
cmdline = "console=hvc0 quiet mitigations=off"
kernel = "/lab/vmlinuz"
maxmem = 160
maxvcpus = 1
ramdisk = "/lab/guest.cpio.gz"
cap = 0
cpu_weight = 256
memory = 160
type = "pv"
on_reboot = "restart"
on_soft_reset = "soft-reset"
"#;
        assert_eq!(written(PV).unwrap(), expected);
    }

    #[test]
    fn an_hvm_guest_is_written_as_it_was_described() {
        let written = written(HVM).unwrap();
        for line in
            ["type = \"hvm\"", "memory = 256", "videoram = 8", "serial = \"pty\"", "vnc = 0", "nographic = 1"]
        {
            assert!(written.lines().any(|of| of == line), "{line}\n{written}");
        }
    }

    /// libxl has written it since Xen 4.19 (LIBXL_HAVE_HVM_PIRQ), for each HVM guest.
    #[test]
    fn what_xen_4_20_says_of_an_hvm_guest_is_written() {
        for (said, line) in [("False", "hvm_pirq = 0"), ("True", "hvm_pirq = 1")] {
            let text =
                format!(r#"{{"c_info": {{"type": "hvm"}}, "b_info": {{"type.hvm": {{"pirq": "{said}"}}}}}}"#);
            let written = written(&text).unwrap();
            assert!(written.lines().any(|of| of == line), "{line}\n{written}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (with, named) in [
            (r#""pcidevs": [{"dev": 1}]"#, "pcidevs"),
            (r#""b_info": {"numa_placement": "False"}"#, "b_info.numa_placement"),
            (r#""b_info": {"max_memkb": 1025}"#, "b_info.max_memkb"),
            (r#""b_info": {"avail_vcpus": [0, 2]}"#, "b_info.avail_vcpus"),
            (r#""disks": [{"vdev": "xvda", "format": "a,b"}]"#, "format"),
            (r#""b_info": {"cmdline": "a\u0000b"}"#, "control"),
        ] {
            let why = written(&format!(r#"{{"c_info": {{"type": "pv"}}, {with}}}"#)).unwrap_err();
            assert!(why.contains(named), "{with}: {why}");
        }
    }

    #[test]
    fn quotes_and_backslashes_stay_what_they_are() {
        let text = r#"{"c_info": {}, "b_info": {"cmdline": "a\"b\\c'd"}}"#;
        assert!(written(text).unwrap().contains(r#"cmdline = "a\x22b\\c'd""#));
    }
}
