//! A machine that is off: describe it, take a snapshot, go back to it, delete it. `cargo run --example snapshot -- ROOT IMAGE`

use std::error::Error;

use xlsnap::{
    Call, CreateRequest, DeleteRequest, Host, NewDisk, NewDomain, Options, RevertRequest, Selector,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), Some(image), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: snapshot ROOT IMAGE".into());
    };
    let host = Host::new(Options::new(root));
    let disk =
        NewDisk { name: "vda".parse()?, image, format: None, read_only: false, removable: false, node: None };
    let web = NewDomain { name: "web".parse()?, uuid: None, domid: None, qmp: None, disks: vec![disk] };
    host.domain_add(web).await?;

    let web = Selector::new("web".parse()?);
    let create = CreateRequest { name: Some("before".parse()?), ..CreateRequest::default() };
    for stage in host.plan_create(&web, &create).await?.stages {
        for step in stage.steps {
            println!("{}", step.what);
        }
    }
    let made = host.create(&web, &create, Call::new()).await?;
    println!("made {}", made.record.snapshot.name.unwrap_or_default());
    let back = host.revert(&web, &RevertRequest::new("before".parse()?), Call::new()).await?;
    println!("at {} again", back.name);
    let gone = DeleteRequest::new("before".parse()?);
    let deleted = host.delete(&web, &gone, Call::new()).await?;
    println!("deleted {}", deleted.deleted.len());
    Ok(())
}
