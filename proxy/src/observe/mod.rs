//! What happened, said once: the decision record, and the log line and metrics made of it.
