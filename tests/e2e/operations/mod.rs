//! The process: its output, its log, its records, and its end.

mod alerts;
mod audit;
mod canary;
mod certificates;
mod checks;
mod closed_pipe;
mod console;
mod corporate_proxy;
mod dashboard;
mod drain;
mod events;
mod exit_codes;
mod export;
mod first_process;
mod first_run;
mod hindsight;
mod manners;
mod questions;
mod rare_reasons;
mod review_page;
mod several_sinks;
mod sinks;
mod starts;
mod traces;
mod triage;
