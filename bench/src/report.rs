//! The results as Markdown.

use std::{fmt::Write, time::Duration};

use crate::{
    Options,
    client::Protocol,
    files,
    load::{BulkResult, LoopResult, as_float},
    scenario::{Results, way_name},
};

/// Prints everything to standard output.
pub(crate) fn print(
    options: &Options,
    machine: &[String],
    results: &Results,
) -> anyhow::Result<()> {
    let mut text = String::new();
    if cfg!(debug_assertions) {
        text.push_str("**Not a release build: these numbers mean nothing.**\n\n");
    }
    for line in machine {
        writeln!(text, "{line}.  ")?;
    }
    writeln!(
        text,
        "Each load ran for {} s after a warm-up; small answers have 1 KiB; every new connection \
         has a whole TLS handshake. Gateway at start: {} resident.\n",
        options.measured().as_secs_f64(),
        mebibytes(results.resident_at_start)
    )?;
    loops(&mut text, results)?;
    bulk(&mut text, options, results)?;
    idle(&mut text, results)?;
    writeln!(
        text,
        "\nDecision records lost: {}.",
        results.dropped_records
    )?;
    files::say(&text)?;
    Ok(())
}

fn loops(text: &mut String, results: &Results) -> std::fmt::Result {
    text.push_str(
        "| load | way | requests/s | p50 ms | p99 ms | p99.9 ms | gateway CPU a request | gateway memory, peak | errors |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for (name, way, result) in &results.loops {
        let latency = &result.latency;
        let quantile = |quantile| millis(latency.value_at_quantile(quantile));
        writeln!(
            text,
            "| {name} | {} | {:.0} | {} | {} | {} | {} | {} | {} |",
            way_name(*way),
            result.per_second(),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            cpu_per_request(result),
            result.peak.map_or_else(String::new, mebibytes),
            result.errors,
        )?;
    }
    text.push('\n');
    Ok(())
}

fn bulk(text: &mut String, options: &Options, results: &Results) -> std::fmt::Result {
    writeln!(
        text,
        "| {} MiB | way | MiB/s | gateway CPU a GiB | gateway memory, growth |\n\
         |---|---|---:|---:|---:|",
        options.body
    )?;
    for (name, way, result) in &results.bulk {
        let BulkResult {
            bytes,
            elapsed,
            cpu,
            growth,
        } = result;
        let gibibytes = as_float(*bytes) / f64::from(1 << 30);
        writeln!(
            text,
            "| {name} | {} | {:.0} | {} | {} |",
            way_name(*way),
            gibibytes * 1024.0 / elapsed.as_secs_f64(),
            cpu.map_or_else(String::new, |cpu| format!(
                "{:.2} s",
                cpu.as_secs_f64() / gibibytes
            )),
            growth.map_or_else(String::new, mebibytes),
        )?;
    }
    text.push('\n');
    Ok(())
}

fn idle(text: &mut String, results: &Results) -> std::fmt::Result {
    text.push_str(
        "| idle connections | gateway memory before | after | a connection | gateway CPU while idle |\n\
         |---|---:|---:|---:|---:|\n",
    );
    for (protocol, result) in &results.idle {
        let name = match protocol {
            Protocol::H1 => "HTTP/1.1",
            Protocol::H2 => "HTTP/2",
        };
        writeln!(
            text,
            "| {} of {name} | {} | {} | {:.1} KiB | {:.1} % |",
            result.connections,
            mebibytes(result.before),
            mebibytes(result.after),
            result.kibibytes_each(),
            100.0 * result.cpu.as_secs_f64() / result.watched.as_secs_f64(),
        )?;
    }
    Ok(())
}

fn cpu_per_request(result: &LoopResult) -> String {
    let micros = result.cpu_micros();
    micros.map_or_else(String::new, |micros| format!("{micros:.0} us"))
}

fn millis(micros: u64) -> String {
    format!("{:.2}", Duration::from_micros(micros).as_secs_f64() * 1e3)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", as_float(bytes) / f64::from(1 << 20))
}
