//! Evidence of silence, taken from the Court's storage while the challenge still stands there.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    providers::{DynProvider, Provider},
    rlp,
    trie::TrieAccount,
};
use std::time::Duration;

use stkr_protocol::{
    evidence::{Asked, EvidenceError, EvidenceFile, Proof, UnansweredProof},
    state::StorageProof,
};

use crate::{Deployment, endpoint, errors::ChainError, header};

/// How often an endpoint is asked for a proof of its newest block's state, and the pause before it is asked again. One that is just making
/// the next block, or behind several nodes, may answer with another state.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Evidence that nobody answered the challenge of `asked`, from the newest block. It is verified before it is given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] where nobody was asked, or can still answer; [`ChainError::Nonsense`] for an
/// endpoint whose proofs lead nowhere.
pub async fn fetch(provider: &DynProvider, deployment: &Deployment, asked: Asked) -> Result<EvidenceFile, ChainError> {
    let mut tries = 1;
    loop {
        match fetch_once(provider, deployment, asked).await {
            Err(ChainError::Nonsense { .. }) if tries < TRIES => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
        tries += 1;
    }
}

async fn fetch_once(provider: &DynProvider, deployment: &Deployment, asked: Asked) -> Result<EvidenceFile, ChainError> {
    let block = endpoint::existing_block(provider, BlockNumberOrTag::Latest).await?;
    let header = header::fetch(provider, block.number).await?;
    let (contract, slot) = (asked.kept_by(deployment.court), asked.slot());
    let action = format!("reading a proof of the challenge in block {}", block.number);
    let proof = endpoint::ask(action.clone(), async {
        // By its hash: after a reorganisation the number is another block's.
        provider.get_proof(contract, vec![slot]).block_id(BlockId::hash(header.hash)).await
    });
    let proof = proof.await?;
    let account = TrieAccount::new(proof.nonce, proof.balance, proof.storage_hash, proof.code_hash);
    let Some(word) = proof.storage_proof.into_iter().find(|it| it.key.as_b256() == slot) else {
        return Err(ChainError::Nonsense { action, detail: "it proves another slot".to_owned() });
    };
    let state = StorageProof {
        header: header.rlp.to_vec(),
        account: rlp::encode(account),
        account_proof: proof.account_proof,
        word: word.value.into(),
        word_proof: word.proof,
    };
    let proof = Proof::UnansweredChallenge(UnansweredProof { asked, state });
    let file = EvidenceFile::new(&deployment.protocol_domain(), deployment.court, proof);
    match file.verify() {
        Ok(_) => Ok(file),
        Err(error @ EvidenceError::State(_)) => Err(ChainError::Nonsense { action, detail: error.to_string() }),
        Err(error) => Err(ChainError::NotFound(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use alloy::primitives::B256;
    use stkr_core::ShareIndex;
    use stkr_protocol::evidence::AskedSignature;

    use super::*;
    use crate::{
        Endpoint,
        testing::{Anvil, deployment, liar},
    };

    /// What the challenge is said to be by an endpoint whose first `lies` proofs are of another state; and how many it was asked for.
    async fn said(anvil: &Anvil, lies: u32) -> (ChainError, u32) {
        let asked: &'static AtomicU32 = Box::leak(Box::default());
        let url = liar(anvil.url.clone(), move |method, mut answer| {
            if method == "eth_getProof" && asked.fetch_add(1, Ordering::SeqCst) < lies {
                answer["nonce"] = "0x77".into();
            }
            answer
        });
        let endpoint = Endpoint::connect(&url.await).await.unwrap();
        let (index, signing_root) = (ShareIndex::new(2).unwrap(), B256::repeat_byte(9));
        let question = Asked::Signature(AskedSignature { key_id: 5, index, signing_root });
        let error = fetch(endpoint.provider(), &deployment(), question).await.unwrap_err();
        (error, asked.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_proof_of_another_state_is_asked_for_again_and_not_for_ever() {
        let anvil = Anvil::start(1).await;
        anvil.set_code(deployment().court, vec![0]).await;
        anvil.mine(1).await;
        let (honest, times) = said(&anvil, 0).await;
        assert!(matches!(honest, ChainError::NotFound(_)) && times == 1, "{honest}, {times}");
        let (late, times) = said(&anvil, TRIES - 1).await;
        assert!(late.to_string() == honest.to_string() && times == TRIES, "{late}, {times}");
        let (never, times) = said(&anvil, u32::MAX).await;
        assert!(matches!(never, ChainError::Nonsense { .. }) && times == TRIES, "{never}, {times}");
    }
}
