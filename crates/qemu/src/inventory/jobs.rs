//! Which nodes block jobs work on.

use std::collections::{HashMap, HashSet};

use xlsnap_qmp_transport::commands::{BlockGraph, BlockJobInfo, GraphNodeKind, JobStatus};

/// The running block jobs, and where they are, if that can be told.
#[derive(Debug)]
pub(crate) struct Jobs<'a> {
    /// What each is called.
    running: Vec<(&'a str, String)>,
    /// `None` where QEMU doesn't tell: then every job may be on every disk.
    graph: Option<&'a BlockGraph>,
}

impl<'a> Jobs<'a> {
    pub(crate) fn new(jobs: &'a [BlockJobInfo], graph: Option<&'a BlockGraph>) -> Self {
        // A concluded job waits to be dismissed and holds nothing any more.
        let running = jobs.iter().filter(|job| !matches!(job.status, JobStatus::Concluded | JobStatus::Null));
        let named = running
            .map(|job| (job.device.as_str(), format!("the block job {:?} ({})", job.device, job.job_type)));
        Self { running: named.collect(), graph }
    }

    /// The job that works on the disk whose node is `node`, if any.
    pub(crate) fn on(&self, node: &str) -> Option<&str> {
        if self.running.is_empty() {
            return None;
        }
        let Some(graph) = self.graph else {
            return self.running.first().map(|(_, what)| what.as_str());
        };
        let below_node = below(graph, GraphNodeKind::BlockDriver, node, true);
        let works_on_it = |job: &str| {
            // Either the job's filter is on top of the node, or the job has a node of the disk's chain. An image below
            // two disks is not a job's for that: only what it holds itself counts there.
            below(graph, GraphNodeKind::BlockJob, job, true).contains(node)
                || below(graph, GraphNodeKind::BlockJob, job, false)
                    .iter()
                    .any(|held| below_node.contains(held))
        };
        self.running.iter().find(|(id, _)| works_on_it(id)).map(|(_, what)| what.as_str())
    }
}

/// The names of the nodes below the thing called `name` of kind `kind`: all of them, or the next ones only.
fn below<'a>(graph: &'a BlockGraph, kind: GraphNodeKind, name: &str, all: bool) -> HashSet<&'a str> {
    let names: HashMap<u64, &str> = graph.nodes.iter().map(|node| (node.id, node.name.as_str())).collect();
    let mut children: HashMap<u64, Vec<u64>> = HashMap::new();
    for edge in &graph.edges {
        children.entry(edge.parent).or_default().push(edge.child);
    }
    let start = graph.nodes.iter().filter(|node| node.kind == kind && node.name == name);
    let mut todo: Vec<u64> = start.map(|node| node.id).collect();
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        for &child in children.get(&id).into_iter().flatten() {
            if seen.insert(child) && all {
                todo.push(child);
            }
        }
    }
    seen.iter().filter_map(|id| names.get(id).copied()).collect()
}

/// The nodes that no other node is built on.
pub(crate) fn roots(graph: &BlockGraph) -> HashSet<&str> {
    let drivers = || graph.nodes.iter().filter(|node| node.kind == GraphNodeKind::BlockDriver);
    let parents: HashSet<u64> = drivers().map(|node| node.id).collect();
    let below: HashSet<u64> =
        graph.edges.iter().filter(|e| parents.contains(&e.parent)).map(|e| e.child).collect();
    drivers().filter(|node| !below.contains(&node.id)).map(|node| node.name.as_str()).collect()
}
