//! HTTP in all its versions: what is right comes through whole, what is not is refused, and whoever
//! breaks it is named.

mod api_answers;
mod bodies;
mod broken_peers;
mod combinations;
mod framing;
mod hostile_requests;
mod multipart;
mod refusals;
mod rfc;
