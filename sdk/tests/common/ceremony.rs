//! A running ceremony that real members carried on to the acknowledgements, and a relayer's bulletin of it.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use alloy::signers::local::PrivateKeySigner;
use serde_json::{Value, json};
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::{
    api::AdvanceResponse,
    ceremony::{Board, Context, Member, MemberId, Phase},
    messages::{Round, SignedMessage},
};
use stkr_sdk::Deployment;

use super::evidence::{domain, one_time_secret, signer_key};

/// Everything that the members of attempt 0 say, acknowledgements included.
pub(crate) fn messages(
    deployment: &Deployment,
    key: u64,
    committee: &[u32],
    signers: &[PrivateKeySigner],
) -> Vec<SignedMessage> {
    let seats = committee.iter().zip(signers);
    let members = seats.map(|(id, signer)| MemberId { server_id: *id, signer: signer.address() }).collect();
    let threshold = Threshold::new(3, 4).unwrap();
    let context = Context::new(domain(deployment), key, 0, threshold, members).unwrap();
    let mut board = Board::new(context.clone());
    let start = |index: ShareIndex| Member::start(context.clone(), index, one_time_secret(index.get()));
    let mut parties: Vec<Member> = threshold.indices().map(start).collect();
    for _ in Round::ALL {
        for (party, signer) in parties.iter_mut().zip(signers) {
            for message in board.messages().cloned().collect::<Vec<_>>() {
                party.accept(message).unwrap();
            }
            party.step(&signer_key(signer)).unwrap();
            for message in party.published() {
                board.accept(message.clone()).unwrap();
            }
        }
    }
    assert!(board.missing(Round::Acknowledgement).is_empty());
    board.messages().cloned().collect()
}

/// What a server that acknowledged answers.
pub(crate) fn acknowledged(messages: Vec<SignedMessage>) -> AdvanceResponse {
    let (phase, waiting_for) = (Phase::Acknowledged, Vec::new());
    AdvanceResponse { messages, phase, waiting_for, failure: None, complaint: None }
}

/// A relayer that shows these messages of the ceremony to whoever asks; its URL. It ends with the test.
pub(crate) fn bulletin(key: u64, messages: &[SignedMessage]) -> String {
    bulletin_with(key, &json!({ "keyId": key.to_string(), "attempt": "0", "messages": messages }))
}

/// A relayer that answers with `body` when it is asked for the first ceremony of the key.
pub(crate) fn bulletin_with(key: u64, body: &Value) -> String {
    let body = body.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/some/path/", listener.local_addr().unwrap());
    let asked = format!("GET /some/path/v1/ceremonies/{key}/0 ");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            let found = String::from_utf8_lossy(&request[..read]).starts_with(&asked);
            let (status, body) = if found { ("200 OK", body.as_str()) } else { ("404 Not Found", "{}") };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    url
}
