//! Drives the collection state machine of the protocol over server clients.
