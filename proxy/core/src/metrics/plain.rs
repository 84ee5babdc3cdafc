//! `OpenMetrics` text as the older text format 0.0.4 of Prometheus, for what reads nothing else.
//!
//! They differ in a few lines: the older one names a counter with its `_total` in `HELP` and `TYPE`, and has no units,
//! no examples and no end.

use std::fmt::Write as _;

/// The same metrics in the older format.
pub(super) fn of_open_metrics(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // A `HELP` line stands before the `TYPE` that says what the name is.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or((kind, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                push(&mut plain, format_args!("# HELP {name}{suffix} {help}"));
            }
            push(&mut plain, format_args!("# TYPE {name}{suffix} {kind}"));
        } else if !line.starts_with('#') {
            push(&mut plain, format_args!("{}", without_example(line)));
        }
    }
    plain
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "{line}");
}

/// A sample without its exemplar, which stands after the labels.
fn without_example(line: &str) -> &str {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_older_format_has_is_left() {
        let open = "# HELP a_requests Finished.\n# TYPE a_requests counter\na_requests_total{x=\"b # c \\\" # d\"} 1\n\
                    # HELP b_seconds Age.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 2\n\
                    # HELP c_seconds Time.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_sum 0.5\n\
                    c_seconds_bucket{le=\"+Inf\"} 1 # {trace_id=\"4b\"} 0.5\n# EOF\n";
        let plain = "# HELP a_requests_total Finished.\n# TYPE a_requests_total counter\na_requests_total{x=\"b # c \\\" # d\"} 1\n\
                     # HELP b_seconds Age.\n# TYPE b_seconds gauge\nb_seconds 2\n\
                     # HELP c_seconds Time.\n# TYPE c_seconds histogram\nc_seconds_sum 0.5\n\
                     c_seconds_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(of_open_metrics(open), plain);
    }
}
