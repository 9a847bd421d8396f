//! Prints what the header of an image says: `cargo run --example info -- FILE FORMAT`.

use std::error::Error;

use xlsnap_qemu_img::{Image, Program, QemuImg};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), Some(format), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: info FILE FORMAT".into());
    };
    let image = Image::new(path, format.to_string_lossy());
    let info = Program::default().info(&image).await?;
    println!("{}: {} bytes, {} on disk", info.format, info.virtual_size, info.actual_size);
    if let Some(backing) = info.backing {
        println!("on {:?} ({})", backing.name, backing.format.as_deref().unwrap_or("format not given"));
    }
    if info.in_use {
        println!("open in another process");
    }
    for snapshot in info.snapshots {
        println!("snapshot {} {:?}, made at {}", snapshot.id, snapshot.name, snapshot.date);
    }
    Ok(())
}
