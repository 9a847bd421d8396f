//! The client on the xenstored of a Xen host. Only there: `cargo xtask xen-lab run xenstore`.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as the test does")]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use xlsnap_xenstore::{
    Change, Client, Kind, Nodes, NodesExt, Options, Path, Watchpoint, Xenstore, transaction,
};

async fn client() -> Client {
    Client::connect_default(Options::default()).await.unwrap()
}

/// A directory of one test, removed with it.
struct Scratch(Path);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = format!("/tool/xlsnap-tests/{}-{test}", std::process::id());
        Self(Path::new(path).unwrap())
    }

    fn path(&self, below: &str) -> Path {
        self.0.join(below).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = Command::new("xenstore-rm").arg(self.0.as_str()).status();
    }
}

/// What Xen's own client prints.
fn xenstore(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(format!("xenstore-{program}")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[tokio::test]
#[ignore = "wants a Xen host"]
async fn nodes_are_those_that_xens_own_client_sees() {
    let (client, scratch) = (client().await, Scratch::new("nodes"));
    let (a, c) = (scratch.path("a/b"), scratch.path("a/c"));
    client.write(&a, b"one").await.unwrap();
    assert_eq!(xenstore("read", &[a.as_str()]), "one");
    xenstore("write", &[c.as_str(), "two"]);
    assert_eq!(client.text(&c).await.unwrap().as_deref(), Some("two"));
    client.make_directory(&scratch.path("a/d")).await.unwrap();
    let mut names = client.directory(&scratch.path("a")).await.unwrap();
    names.sort();
    assert_eq!(names, ["b", "c", "d"]);
    client.remove(&scratch.path("a")).await.unwrap();
    assert_eq!(client.text(&a).await.unwrap(), None);
    assert_eq!(client.read(&a).await.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
#[ignore = "wants a Xen host"]
async fn dom0_is_found() {
    let client = client().await;
    assert_eq!(client.domain_path(0).await.unwrap().as_str(), "/local/domain/0");
    let name = client.text(&Path::new("/local/domain/0/name").unwrap()).await.unwrap();
    assert_eq!(name.as_deref(), Some("Domain-0"));
}

#[tokio::test]
#[ignore = "wants a Xen host"]
async fn a_directory_that_is_longer_than_a_message_is_listed() {
    let (client, scratch) = (client().await, Scratch::new("long"));
    let expected: Vec<String> = (0..600).map(|number| format!("child-{number:04}")).collect();
    for name in &expected {
        client.write(&scratch.path(name), b"").await.unwrap();
    }
    let mut names = client.directory(&scratch.0).await.unwrap();
    names.sort();
    assert_eq!(names, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants a Xen host"]
async fn transactions_of_several_clients_lose_nothing() {
    const CLIENTS: u32 = 4;
    const TIMES: u32 = 10;
    let scratch = Arc::new(Scratch::new("count"));
    let tasks: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let scratch = scratch.clone();
            tokio::spawn(async move {
                let client = client().await;
                let number = scratch.path("number");
                for _ in 0..TIMES {
                    transaction(&client, |nodes| {
                        let number = number.clone();
                        async move {
                            let old = nodes.text(&number).await?.map_or(0, |text| text.parse().unwrap());
                            nodes.write(&number, (old + 1).to_string().as_bytes()).await?;
                            Ok::<_, xlsnap_xenstore::Error>((nodes, ()))
                        }
                    })
                    .await
                    .unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let number = client().await.text(&scratch.path("number")).await.unwrap();
    assert_eq!(number, Some((CLIENTS * TIMES).to_string()));
}

#[tokio::test]
#[ignore = "wants a Xen host"]
async fn a_dropped_transaction_changes_nothing() {
    let (client, scratch) = (client().await, Scratch::new("dropped"));
    let open = client.begin().await.unwrap();
    open.write(&scratch.path("a"), b"1").await.unwrap();
    drop(open);
    assert_eq!(client.text(&scratch.path("a")).await.unwrap(), None);
}

#[tokio::test]
#[ignore = "wants a Xen host"]
async fn a_watch_tells_what_others_change() {
    let (client, scratch) = (client().await, Scratch::new("watch"));
    client.make_directory(&scratch.0).await.unwrap();
    let mut watch = client.watch(&scratch.0.clone().into()).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), Change::At(scratch.0.clone().into()), "the state at the start");
    let below = scratch.path("x");
    xenstore("write", &[below.as_str(), "1"]);
    let told = timeout(Duration::from_secs(30), watch.next()).await.expect("it tells it");
    assert_eq!(told.unwrap(), Change::At(below.into()));
    let mut vanish = client.watch(&Watchpoint::DomainsVanish).await.unwrap();
    assert_eq!(vanish.next().await.unwrap(), Change::At(Watchpoint::DomainsVanish));
}

#[tokio::test]
#[ignore = "wants a Xen host"]
async fn what_xenstored_refuses_is_told_apart() {
    let client = client().await;
    let long = Path::new(format!("/tool/{}", "a/".repeat(40).trim_end_matches('/'))).unwrap();
    assert_eq!(client.read(&long).await.unwrap_err().kind(), Kind::NotFound);
    let deep = Path::new(format!("/tool/{}", "a".repeat(3000))).unwrap();
    let error = client.write(&deep, b"").await.unwrap_err();
    assert!(matches!(error.kind(), Kind::Rejected | Kind::Limit), "{error:?}");
}
