//! What a command line of QEMU needs, read off its words. Nothing is looked at here, and what is not understood needs nothing.

use super::words::{self, Keys, Word};

/// One thing that has to be there before QEMU is started, and the option that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What.
    pub thing: Thing,
    /// The option, with the id that it has: `-chardev ct`.
    pub option: String,
}

/// What a start can need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Thing {
    /// A file, or a device of the host's.
    File(String),
    /// A directory.
    Directory(String),
    /// A directory for this new file.
    Place(String),
    /// A Unix socket at which a process listens.
    Listener(String),
    /// A TCP port that is free; the host is empty for every address.
    Port {
        /// The address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A network interface.
    Interface(String),
}

/// The first port of VNC's displays.
const VNC: u16 = 5900;

/// What the options of a command line need, in its order.
pub fn needs(line: &[String]) -> Vec<Need> {
    let words = words::of(line);
    let mut needs = Needs { list: Vec::new(), users: users(&words) };
    words.iter().for_each(|word| needs.add(word));
    // Of several accelerators QEMU takes the first that works.
    let accelerators: Vec<String> = words.iter().flat_map(accelerators).collect();
    if !accelerators.is_empty() && accelerators.iter().all(|accelerator| accelerator == "kvm") {
        needs.push(Thing::File("/dev/kvm".to_owned()), "-accel kvm".to_owned());
    }
    needs.list
}

/// What uses a chardev, by the chardev's id: what people know is the TPM, not its chardev.
fn users(words: &[Word<'_>]) -> Vec<(String, String)> {
    let user = |word: &Word<'_>| {
        let implied = if word.option == "tpmdev" { "type" } else { "driver" };
        if !matches!(word.option, "tpmdev" | "netdev" | "device") {
            return None;
        }
        let keys = Keys::of(word.value, implied);
        Some((keys.get("chardev")?.to_owned(), named(word, &keys)))
    };
    words.iter().filter_map(user).collect()
}

fn accelerators(word: &Word<'_>) -> Vec<String> {
    let several = |text: &str| text.split(':').map(str::to_owned).collect();
    match word.option {
        "enable-kvm" => vec!["kvm".to_owned()],
        "accel" => Keys::of(word.value, "accel").get("accel").map(several).unwrap_or_default(),
        "machine" | "M" => Keys::of(word.value, "type").get("accel").map(several).unwrap_or_default(),
        _ => Vec::new(),
    }
}

struct Needs {
    list: Vec<Need>,
    users: Vec<(String, String)>,
}

impl Needs {
    fn push(&mut self, thing: Thing, option: String) {
        let need = Need { thing, option };
        if !self.list.contains(&need) {
            self.list.push(need);
        }
    }

    fn file(&mut self, path: Option<&str>, option: &str) {
        if let Some(path) = path.filter(|path| is_a_file(path)) {
            self.push(Thing::File(path.to_owned()), option.to_owned());
        }
    }

    fn directory(&mut self, path: Option<&str>, option: &str) {
        if let Some(path) = path {
            self.push(Thing::Directory(path.to_owned()), option.to_owned());
        }
    }

    fn place(&mut self, path: Option<&str>, option: &str) {
        if let Some(path) = path.filter(|path| is_a_file(path)) {
            self.push(Thing::Place(path.to_owned()), option.to_owned());
        }
    }

    fn port(&mut self, host: &str, port: &str, option: &str) {
        if let Some(port) = port.parse().ok().filter(|port| *port != 0) {
            self.push(Thing::Port { host: host.to_owned(), port }, option.to_owned());
        }
    }

    fn add(&mut self, word: &Word<'_>) {
        let plain = format!("-{}", word.option);
        match word.option {
            "hda" | "hdb" | "hdc" | "hdd" | "fda" | "fdb" | "cdrom" | "sd" | "mtdblock" | "pflash"
            | "kernel" | "dtb" | "shim" | "option-rom" | "readconfig" => self.file(Some(word.value), &plain),
            // Of a multiboot kernel several, with arguments.
            "initrd" if !word.value.contains([',', ' ']) => self.file(Some(word.value), &plain),
            // Another name is looked for among QEMU's own firmware.
            "bios" if word.value.starts_with('/') => self.file(Some(word.value), &plain),
            "pidfile" | "D" => self.place(Some(word.value), &plain),
            "mem-path" => self.place(Some(word.value), &plain),
            "chroot" => self.directory(Some(word.value), &plain),
            "drive" => self.drive(word),
            "blockdev" => self.blockdev(word),
            "chardev" => self.chardev(word),
            "serial" | "parallel" | "monitor" | "qmp" | "qmp-pretty" | "gdb" | "debugcon" => {
                self.stream(word.value, &plain);
            }
            "s" => self.port("", "1234", &plain),
            "tpmdev" => {
                let keys = Keys::of(word.value, "type");
                if keys.get("type") == Some("passthrough") {
                    self.file(keys.get("path"), &named(word, &keys));
                }
            }
            "object" => self.object(word),
            "netdev" | "nic" | "net" => self.network(word),
            "fsdev" | "virtfs" => {
                let keys = Keys::of(word.value, "fsdriver");
                if keys.get("fsdriver") == Some("local") {
                    self.directory(keys.get("path"), &named(word, &keys));
                }
            }
            "device" => self.device(word),
            "vnc" => self.vnc(word.value, &plain),
            "display" => {
                if let Some(vnc) = word.value.strip_prefix("vnc=") {
                    self.vnc(vnc, "-display vnc");
                }
            }
            "spice" => {
                let keys = Keys::of(word.value, "");
                if !keys.is_on("unix") {
                    for port in ["port", "tls-port"] {
                        let host = keys.get("addr").unwrap_or_default();
                        self.port(host, keys.get(port).unwrap_or_default(), &plain);
                    }
                }
            }
            "fw_cfg" => self.file(Keys::of(word.value, "name").get("file"), &plain),
            "smbios" => self.file(Keys::of(word.value, "").get("file"), &plain),
            "acpitable" => {
                let keys = Keys::of(word.value, "");
                let files = keys.get("file").or(keys.get("data")).unwrap_or_default();
                files
                    .split(':')
                    .filter(|file| !file.is_empty())
                    .for_each(|file| self.file(Some(file), &plain));
            }
            "plugin" => {
                self.file(Keys::of(word.value, "file").get("file").filter(|file| file.contains('/')), &plain);
            }
            _ => {}
        }
    }

    fn drive(&mut self, word: &Word<'_>) {
        let keys = Keys::of(word.value, "");
        let option = named(word, &keys);
        // Where a name may be a protocol's, only what cannot be one is taken for a file.
        let file = keys.get("file").map(|file| file.strip_prefix("file:").unwrap_or(file));
        self.file(file.filter(|file| file.starts_with('/') || !file.contains(':')), &option);
        self.nodes(&keys, &option);
    }

    fn blockdev(&mut self, word: &Word<'_>) {
        let keys = Keys::of(word.value, "");
        self.nodes(&keys, &named(word, &keys));
    }

    /// The files of block nodes, however deep.
    fn nodes(&mut self, keys: &Keys, option: &str) {
        for (key, value) in keys.iter() {
            let Some(above) = key.strip_suffix("filename") else { continue };
            if !above.is_empty() && !above.ends_with('.') {
                continue;
            }
            let driver = keys.get(&format!("{above}driver"));
            if matches!(driver, Some("file" | "host_device" | "host_cdrom")) {
                self.file(Some(value), option);
            }
        }
    }

    fn chardev(&mut self, word: &Word<'_>) {
        let keys = Keys::of(word.value, "backend");
        let mut option = named(word, &keys);
        let user = self.users.iter().find(|(chardev, _)| Some(chardev.as_str()) == keys.get("id"));
        if let Some((_, user)) = user {
            option = format!("{option} (of {user})");
        }
        match keys.get("backend") {
            Some("socket") => self.socket(&keys, &option),
            Some("file") => self.place(keys.get("path"), &option),
            Some("serial" | "tty" | "parallel" | "parport") => self.file(keys.get("path"), &option),
            _ => {}
        }
    }

    fn socket(&mut self, keys: &Keys, option: &str) {
        let tries_again =
            ["reconnect", "reconnect-ms"].iter().any(|key| keys.get(key).is_some_and(|s| s != "0"));
        let is_server = keys.is_on("server");
        match (keys.get("path"), keys.get("port")) {
            _ if keys.is_on("abstract") || keys.get("fd").is_some() => {}
            (Some(path), _) if is_server => self.place(Some(path), option),
            (Some(path), _) if !tries_again => {
                self.push(Thing::Listener(path.to_owned()), option.to_owned());
            }
            (None, Some(port)) if is_server && keys.get("to").is_none() => {
                self.port(keys.get("host").unwrap_or_default(), port, option);
            }
            _ => {}
        }
    }

    /// The older words of a character device: `unix:/path,server=on`, `tcp:host:port,server=on`, `file:/path`, `/dev/ttyS0`.
    fn stream(&mut self, value: &str, option: &str) {
        if value.starts_with("/dev/") {
            return self.file(Some(value), option);
        }
        let Some((kind, rest)) = value.split_once(':') else { return };
        match kind {
            "unix" => self.socket(&Keys::of(rest, "path"), option),
            "tcp" | "telnet" | "websocket" => {
                let keys = Keys::of(rest, "address");
                let address = keys.get("address").unwrap_or_default();
                let is_server = keys.is_on("server") || kind == "websocket" || option == "-gdb";
                if let Some((host, port)) = address.rsplit_once(':').filter(|_| is_server) {
                    self.port(host, port, option);
                }
            }
            "file" => self.place(Some(rest), option),
            _ => {}
        }
    }

    fn object(&mut self, word: &Word<'_>) {
        let keys = Keys::of(word.value, "qom-type");
        let option = named(word, &keys);
        match keys.get("qom-type").unwrap_or_default() {
            // One that is not there is made, but for a read-only one.
            "memory-backend-file" if keys.is_on("readonly") => self.file(keys.get("mem-path"), &option),
            "memory-backend-file" => self.place(keys.get("mem-path"), &option),
            "rng-random" => self.file(keys.get("filename"), &option),
            "secret" => self.file(keys.get("file"), &option),
            "input-linux" => self.file(keys.get("evdev"), &option),
            "pr-manager-helper" => {
                if let Some(path) = keys.get("path") {
                    self.push(Thing::Listener(path.to_owned()), option);
                }
            }
            kind if kind.starts_with("tls-creds-") => self.directory(keys.get("dir"), &option),
            _ => {}
        }
    }

    fn network(&mut self, word: &Word<'_>) {
        let keys = Keys::of(word.value, "type");
        let option = named(word, &keys);
        match keys.get("type").unwrap_or_default() {
            "tap" if ["fd", "fds", "helper"].iter().all(|key| keys.get(key).is_none()) => {
                self.file(Some("/dev/net/tun"), &option);
                for script in ["script", "downscript"] {
                    self.file(
                        keys.get(script).filter(|script| *script != "no" && !script.is_empty()),
                        &option,
                    );
                }
            }
            "bridge" => {
                let bridge = keys.get("br").unwrap_or("br0");
                self.push(Thing::Interface(bridge.to_owned()), option);
            }
            "vhost-vdpa" => self.file(keys.get("vhostdev"), &option),
            "socket" => {
                if let Some((host, port)) = keys.get("listen").and_then(|listen| listen.rsplit_once(':')) {
                    self.port(host, port, &option);
                }
            }
            "user" => {
                for (_, rule) in keys.iter().filter(|(key, _)| *key == "hostfwd") {
                    self.forward(rule, &option);
                }
                self.directory(keys.get("smb"), &option);
            }
            _ => {}
        }
    }

    /// `tcp:host:port-guest:port`.
    fn forward(&mut self, rule: &str, option: &str) {
        let (protocol, rest) = rule.split_once(':').unwrap_or_default();
        let ours = rest.rsplit_once('-').map_or("", |(ours, _)| ours);
        if let Some((host, port)) = ours.rsplit_once(':').filter(|_| matches!(protocol, "tcp" | "")) {
            self.port(host, port, option);
        }
    }

    fn device(&mut self, word: &Word<'_>) {
        let keys = Keys::of(word.value, "driver");
        let option = named(word, &keys);
        match keys.get("driver").unwrap_or_default() {
            "vfio-pci" => {
                if let Some(address) = keys.get("host") {
                    // The domain, which may be left out, has a colon of its own.
                    let whole = if address.matches(':').count() == 1 { "0000:" } else { "" };
                    self.file(Some(&format!("/sys/bus/pci/devices/{whole}{address}")), &option);
                }
                self.file(keys.get("sysfsdev"), &option);
            }
            "loader" => self.file(keys.get("file").filter(|file| file.starts_with('/')), &option),
            "vhost-vsock-pci" | "vhost-vsock" => self.file(Some("/dev/vhost-vsock"), &option),
            kind if kind.starts_with("virtio-input-host") => self.file(keys.get("evdev"), &option),
            _ => {}
        }
        self.file(keys.get("romfile").filter(|file| file.starts_with('/')), &option);
    }

    fn vnc(&mut self, value: &str, option: &str) {
        let keys = Keys::of(value, "display");
        let display = keys.get("display").unwrap_or_default();
        if let Some(path) = display.strip_prefix("unix:") {
            return self.place(Some(path), option);
        }
        // A reversed one calls; one with `to` takes another display.
        if keys.is_on("reverse") || keys.get("to").is_some() {
            return;
        }
        if let Some((host, display)) = display.rsplit_once(':')
            && let Some(port) = display.parse::<u16>().ok().and_then(|display| VNC.checked_add(display))
        {
            self.port(host, &port.to_string(), option);
        }
    }
}

/// The option with the name that it gives to what it makes.
fn named(word: &Word<'_>, keys: &Keys) -> String {
    let id = ["id", "node-name"].iter().find_map(|key| keys.get(key));
    match id {
        Some(id) => format!("-{} {id}", word.option),
        None => format!("-{}", word.option),
    }
}

/// Whether it is a name in the file system, and none that stands for an open descriptor.
fn is_a_file(path: &str) -> bool {
    let descriptors =
        ["/dev/fdset/", "/dev/fd/", "/proc/self/fd/", "/dev/stdin", "/dev/stdout", "/dev/stderr"];
    !path.is_empty() && !descriptors.iter().any(|beginning| path.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line of options, without spaces in values, and what it needs.
    #[test]
    fn options_need_things() {
        let file = |path: &str| Thing::File(path.into());
        let place = |path: &str| Thing::Place(path.into());
        let listener = |path: &str| Thing::Listener(path.into());
        let directory = |path: &str| Thing::Directory(path.into());
        let port = |host: &str, port| Thing::Port { host: host.into(), port };
        for (options, expected) in [
            ("-cdrom /a.iso", vec![(file("/a.iso"), "-cdrom")]),
            ("-kernel /k -initrd /i -append /none", vec![(file("/k"), "-kernel"), (file("/i"), "-initrd")]),
            ("-initrd /a,/b", vec![]),
            ("-bios bios.bin -bios /b", vec![(file("/b"), "-bios")]),
            ("-drive if=pflash,unit=0,readonly=on,file=/O,,VMF.fd", vec![(file("/O,VMF.fd"), "-drive")]),
            ("-drive id=d,file=nbd:unix:/s -drive id=e,file=file:/x", vec![(file("/x"), "-drive e")]),
            ("-drive file=https://h/a -drive file=json:{} -drive if=ide", vec![]),
            ("-drive driver=qcow2,file.driver=file,file.filename=/a", vec![(file("/a"), "-drive")]),
            ("-blockdev driver=file,node-name=n,filename=/a", vec![(file("/a"), "-blockdev n")]),
            (
                r#"-blockdev {"driver":"qcow2","node-name":"n","file":{"driver":"file","filename":"/a"},"backing":{"driver":"raw","file":{"driver":"host_device","filename":"/dev/b"}}}"#,
                vec![(file("/dev/b"), "-blockdev n"), (file("/a"), "-blockdev n")],
            ),
            (r#"-blockdev {"driver":"nbd","server":{"type":"unix","path":"/s"}}"#, vec![]),
            (
                "-blockdev driver=raw,filename=/a -add-fd fd=3,set=1 -blockdev driver=file,filename=/dev/fdset/1",
                vec![],
            ),
            (
                "-chardev socket,id=ct,path=/t.sock -tpmdev emulator,id=tpm0,chardev=ct",
                vec![(listener("/t.sock"), "-chardev ct (of -tpmdev tpm0)")],
            ),
            ("-chardev socket,id=c,path=/s,server=on,wait=off", vec![(place("/s"), "-chardev c")]),
            ("-chardev socket,id=c,path=/s,reconnect=1", vec![]),
            ("-chardev socket,id=c,path=/s,abstract=on", vec![]),
            ("-chardev socket,id=c,host=h,port=7", vec![]),
            ("-chardev socket,id=c,host=127.0.0.1,port=7,server", vec![(port("127.0.0.1", 7), "-chardev c")]),
            ("-chardev file,id=c,path=/l -chardev pty,id=d", vec![(place("/l"), "-chardev c")]),
            (
                "-serial unix:/s -monitor unix:/m,server,nowait",
                vec![(listener("/s"), "-serial"), (place("/m"), "-monitor")],
            ),
            ("-qmp tcp:localhost:4444,server=on,wait=off", vec![(port("localhost", 4444), "-qmp")]),
            (
                "-serial stdio -serial chardev:c -serial tcp:h:1 -serial /dev/ttyS0",
                vec![(file("/dev/ttyS0"), "-serial")],
            ),
            ("-gdb tcp::9 -s", vec![(port("", 9), "-gdb"), (port("", 1234), "-s")]),
            ("-object memory-backend-file,id=m,mem-path=/m,size=1G", vec![(place("/m"), "-object m")]),
            ("-object rng-random,id=r,filename=/dev/urandom", vec![(file("/dev/urandom"), "-object r")]),
            ("-object secret,id=s,file=/k -object secret,id=t,data=x", vec![(file("/k"), "-object s")]),
            ("-object tls-creds-x509,id=t,dir=/d,endpoint=server", vec![(directory("/d"), "-object t")]),
            (
                "-netdev tap,id=n,ifname=tap0,script=/up,downscript=no",
                vec![(file("/dev/net/tun"), "-netdev n"), (file("/up"), "-netdev n")],
            ),
            ("-netdev tap,id=n,fd=3", vec![]),
            ("-netdev bridge,id=n,br=br1", vec![(Thing::Interface("br1".into()), "-netdev n")]),
            (
                "-nic user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=udp::5-:5",
                vec![(port("127.0.0.1", 2222), "-nic")],
            ),
            ("-vnc :1", vec![(port("", 5901), "-vnc")]),
            ("-display vnc=127.0.0.1:2,to=9 -display vnc=unix:/v", vec![(place("/v"), "-display vnc")]),
            ("-vnc none", vec![]),
            ("-spice port=0,tls-port=5930,addr=127.0.0.1", vec![(port("127.0.0.1", 5930), "-spice")]),
            (
                "-device vfio-pci,host=01:00.0,id=g",
                vec![(file("/sys/bus/pci/devices/0000:01:00.0"), "-device g")],
            ),
            ("-device loader,file=/f,addr=1 -device e1000,romfile=", vec![(file("/f"), "-device")]),
            ("-virtfs local,path=/d,mount_tag=t,security_model=none", vec![(directory("/d"), "-virtfs")]),
            ("-fw_cfg name=opt/a,file=/f -fw_cfg name=opt/b,string=/s", vec![(file("/f"), "-fw_cfg")]),
            ("-machine q35,accel=kvm", vec![(file("/dev/kvm"), "-accel kvm")]),
            ("-enable-kvm", vec![(file("/dev/kvm"), "-accel kvm")]),
            ("-accel kvm -accel tcg", vec![]),
            ("-accel kvm:tcg", vec![]),
            ("-what /a -unknown=/b /c", vec![]),
        ] {
            let line: Vec<String> =
                std::iter::once("qemu-system-x86_64").chain(options.split(' ')).map(str::to_owned).collect();
            let found: Vec<(Thing, String)> =
                needs(&line).into_iter().map(|need| (need.thing, need.option)).collect();
            let expected: Vec<(Thing, String)> =
                expected.into_iter().map(|(thing, option)| (thing, option.to_owned())).collect();
            assert_eq!(found, expected, "{options}");
        }
    }
}
