//! Cores: some for the gateway, the others for the load and the stand-in API, so that the one
//! does not take from the other what is being measured.

use anyhow::Context;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Which cores are whose.
#[derive(Debug, Clone)]
pub(crate) struct Cores {
    gateway: Vec<usize>,
    load: Vec<usize>,
}

impl Cores {
    /// Gives the gateway the first half of the cores this process may use. With one core, or when
    /// told so, everything shares everything.
    pub(crate) fn split(unpinned: bool) -> anyhow::Result<Self> {
        let ours = sched_getaffinity(None).context("cannot read the cores of this process")?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|core| ours.is_set(*core))
            .collect();
        if unpinned || all.len() < 2 {
            return Ok(Self {
                gateway: all.clone(),
                load: all,
            });
        }
        let (gateway, load) = all.split_at(all.len() / 2);
        Ok(Self {
            gateway: gateway.to_vec(),
            load: load.to_vec(),
        })
    }

    /// The same cores, all of them the gateway's too.
    pub(crate) fn shared(&self) -> Self {
        let mut all = self.gateway.clone();
        all.extend(self.load.iter().filter(|core| !self.gateway.contains(core)));
        Self {
            gateway: all,
            load: self.load.clone(),
        }
    }

    /// Restricts this thread, and the threads and processes it will start, to the load's cores.
    pub(crate) fn take_load(&self) -> anyhow::Result<()> {
        restrict(&self.load)
    }

    /// Restricts this thread, and the threads and processes it will start, to the gateway's
    /// cores.
    pub(crate) fn take_gateway(&self) -> anyhow::Result<()> {
        restrict(&self.gateway)
    }

    /// For the report.
    pub(crate) fn describe(&self) -> String {
        if self.gateway == self.load {
            return format!("gateway, load and stand-in share {} cores", self.load.len());
        }
        format!(
            "{} for the gateway, {} for the load and the stand-in API together",
            self.gateway.len(),
            self.load.len()
        )
    }
}

fn restrict(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    sched_setaffinity(None, &set).context("cannot choose cores")
}
