//! What the tests of several rooms stand on: a [`TestBed`], which is a gateway in an environment of
//! stand-ins, the clients that speak to it, and the waiting for what it does.

mod clients;
mod example;
mod filesystem;
mod requests;
mod sockets;
mod test_bed;
mod waiting;

pub(crate) use self::{
    clients::{
        DUMMY_APP, DUMMY_BOT, DUMMY_QASE, Outcome, WEBHOOK, check_received, chosen, python,
        tests_directory,
    },
    example::{EXAMPLE, ExampleApi, HOST, SECRET, UNMATCHED},
    filesystem::{SmallDisk, named_pipe},
    requests::{auth_test, get, list_runs, post_message},
    sockets::{closed, echo_server, exchange},
    test_bed::{ApiUnderTest, Builder, TestBed},
    waiting::{PATIENCE, pass, soon, until},
};
