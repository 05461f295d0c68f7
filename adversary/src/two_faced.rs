//! A dealer with two faces and the relayer that helps it: some members see one dealing, the others another.
//!
//! Without the commitment sets this splits the committee into members that hold shares of two different keys. With
//! them, nobody reveals: each member sees a set that differs from its own and says whose.

use eyre::{Result, eyre};
use std::collections::BTreeSet;
use stkr_core::ShareIndex;
use stkr_core::dkg::OneTimeSecret;
use stkr_node::client::ServerClient;
use stkr_protocol::SignerKey;
use stkr_protocol::api::{AdvanceRequest, AdvanceResponse};
use stkr_protocol::ceremony::{Context, Member};
use stkr_protocol::messages::{Round, SignedMessage};

/// What the honest members said at the end, by their share index.
#[derive(Debug)]
pub struct Verdicts {
    /// Last answer of each honest member.
    pub answers: Vec<(ShareIndex, AdvanceResponse)>,
    /// Dealings that any honest member revealed.
    pub revealed: usize,
}

/// Plays member `me` with two dealings, and the relayer that shows the second to the members in `deceived`.
///
/// `honest` are clients of all other members. `key_id` and `attempt` as on-chain.
///
/// # Errors
/// When a server cannot be reached or the attacker's own machine fails.
pub async fn attack(
    context: &Context,
    me: ShareIndex,
    key: &SignerKey,
    honest: &[(ShareIndex, ServerClient)],
    deceived: &BTreeSet<ShareIndex>,
) -> Result<Verdicts> {
    let secret = OneTimeSecret::random()?;
    let again = OneTimeSecret::from_bytes(&secret.to_bytes())?;
    let mut faces = [Member::start(context.clone(), me, secret), Member::start(context.clone(), me, again)];
    let mut seen: Vec<SignedMessage> = Vec::new();
    let mut answers = Vec::new();
    // One pass per round and one for the members to see each other's commitment sets.
    for _ in 0..Round::ALL.len() + 1 {
        answers.clear();
        for face in &mut faces {
            for message in &seen {
                let _ = face.accept(message.clone());
            }
            face.step(key)?;
        }
        let mine: Vec<Vec<SignedMessage>> =
            faces.iter().map(|face| face.published().into_iter().cloned().collect()).collect();
        let mut fresh = Vec::new();
        for (index, client) in honest {
            let face = usize::from(deceived.contains(index));
            let messages = seen.iter().chain(mine.get(face).ok_or_else(|| eyre!("two faces"))?).cloned().collect();
            let request = AdvanceRequest { key_id: context.key_id(), attempt: context.attempt(), messages };
            let answer = client.advance(&request).await?;
            fresh.extend(answer.messages.iter().cloned());
            answers.push((*index, answer));
        }
        for message in fresh {
            if !seen.contains(&message) {
                seen.push(message);
            }
        }
    }
    let revealed = seen.iter().filter(|message| message.body.round() == Round::Dealing).count();
    Ok(Verdicts { answers, revealed })
}
