//! What the kernel says of this process, under the names that every process has; read when metrics are scraped.

use std::fmt;

use procfs::process::{LimitValue, Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(OwnProcess));
}

#[derive(Debug)]
struct OwnProcess;

impl Collector for OwnProcess {
    /// What cannot be read is left out.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(process) = Process::myself() else {
            return Ok(());
        };
        if let Ok(stat) = process.stat() {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a process that has run for 2^53 ticks is a million years old"
            )]
            let seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
            write(
                &mut encoder,
                ("process_cpu", "Time that its threads have run"),
                Some(&Unit::Seconds),
                &ConstCounter::new(seconds),
            )?;
            for (name, help, bytes) in [
                (
                    "process_resident_memory",
                    "Memory of the process that is in RAM",
                    stat.rss.saturating_mul(procfs::page_size()),
                ),
                (
                    "process_virtual_memory",
                    "Address space of the process",
                    stat.vsize,
                ),
            ] {
                let gauge = ConstGauge::new(bytes);
                write(&mut encoder, (name, help), Some(&Unit::Bytes), &gauge)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            let gauge = ConstGauge::new(u64::try_from(open).unwrap_or(u64::MAX));
            let about = ("process_open_fds", "Open file descriptors");
            write(&mut encoder, about, None, &gauge)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            let about = (
                "process_max_fds",
                "The most file descriptors that may be open",
            );
            write(&mut encoder, about, None, &ConstGauge::new(most))?;
        }
        Ok(())
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    let encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
    metric.encode(encoder)
}
