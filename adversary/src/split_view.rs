//! A gateway that shows each server another order of two conflicting duties, in the hope of two full signatures.

use eyre::{Result, eyre};
use futures::future::{join, join_all};
use stkr_core::{ShareIndex, Signature};
use stkr_node::client::ServerClient;
use stkr_protocol::api::SignBatch;
use stkr_protocol::collection::{Collection, Committee, Progress};
use stkr_protocol::sign::{Asked, SignResponse};

/// How both requests reach one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In one batch.
    OneCall,
    /// The second when the first is answered.
    OneAfterTheOther,
    /// In two calls at once.
    AtOnce,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::OneCall, Self::OneAfterTheOther, Self::AtOnce];
}

/// Asks every server for both duties, those for which `first` says so for the second one first, and combines what it gets:
/// the full signatures over the one and over the other.
///
/// # Errors
/// When a server cannot be reached.
pub async fn attack(
    committee: &Committee,
    servers: &[(ShareIndex, ServerClient)],
    duties: [&Asked; 2],
    second_first: impl Fn(ShareIndex) -> bool,
    way: Way,
) -> Result<[Option<Signature>; 2]> {
    let asked = servers.iter().map(|(index, client)| {
        let turned = second_first(*index);
        async move {
            let [one, other] = duties;
            let order = if turned { [other, one] } else { [one, other] };
            let [first, second] = both(client, order, way).await?;
            Ok::<_, eyre::Report>((*index, if turned { [second, first] } else { [first, second] }))
        }
    });
    let mut collections = duties.map(|duty| Collection::new(duty.clone(), committee.clone(), []));
    for answers in join_all(asked).await {
        let (index, answers) = answers?;
        for (collection, answer) in collections.iter_mut().zip(answers) {
            let _ = collection.on_response(index, answer);
        }
    }
    Ok(collections.map(|mut collection| match collection.poll() {
        Progress::Done(done) => Some(done.signature),
        Progress::Waiting { .. } => None,
    }))
}

async fn both(client: &ServerClient, order: [&Asked; 2], way: Way) -> Result<[SignResponse; 2]> {
    let [one, other] = order.map(|asked| asked.request().clone());
    match way {
        Way::OneCall => {
            let answers = client.sign(&SignBatch { requests: vec![one, other] }).await?;
            answers.try_into().map_err(|answers: Vec<_>| eyre!("{} answers", answers.len()))
        }
        Way::OneAfterTheOther => Ok([client.sign_one(&one).await?, client.sign_one(&other).await?]),
        Way::AtOnce => {
            let (first, second) = join(client.sign_one(&one), client.sign_one(&other)).await;
            Ok([first?, second?])
        }
    }
}
