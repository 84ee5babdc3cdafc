//! A name server that knows a few names and says of all others that they do not exist.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::net::UdpSocket;

/// Names without their final dot, and their addresses.
pub(super) type Names = BTreeMap<String, Vec<IpAddr>>;

/// Seconds; a test is over by then.
const TTL: u32 = 300;

/// Answers until the runtime ends.
pub(super) async fn serve(socket: UdpSocket, names: Arc<Names>) {
    let mut buffer = [0; 4096];
    loop {
        // An error is that of somebody who did not wait for his answer.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(answer) = answer(&buffer[..length], &names) {
            send(&socket, &answer, from).await;
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    // As above: nobody waits.
    let _gone = socket.send_to(answer, to).await;
}

/// What is no question gets no answer.
fn answer(question: &[u8], names: &Names) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let name = query.name().to_ascii().to_ascii_lowercase();
    match names.get(name.trim_end_matches('.')) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            let wanted =
                addresses
                    .iter()
                    .filter_map(|address| match (address, query.query_type()) {
                        (IpAddr::V4(v4), RecordType::A) => Some(RData::A((*v4).into())),
                        (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA((*v6).into())),
                        _ => None,
                    });
            for data in wanted {
                answer.add_answer(Record::from_rdata(query.name().clone(), TTL, data));
            }
        }
    }
    answer.add_query(query);
    answer.to_vec().ok()
}
