//! Evidence of silence, taken from the Court's storage while the challenge still stands there.

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    providers::{DynProvider, Provider},
    rlp,
    trie::TrieAccount,
};
use stkr_protocol::{
    evidence::{Asked, EvidenceError, EvidenceFile, Proof, UnansweredProof},
    state::StorageProof,
};

use crate::{Deployment, endpoint, errors::ChainError, header};

/// Evidence that nobody answered the challenge of `asked`, from the newest block. It is verified before it is given to anybody.
///
/// # Errors
/// That of the endpoint; [`ChainError::NotFound`] where nobody was asked, or can still answer; [`ChainError::Nonsense`] for an
/// endpoint whose proof leads nowhere.
pub async fn fetch(provider: &DynProvider, deployment: &Deployment, asked: Asked) -> Result<EvidenceFile, ChainError> {
    let block = endpoint::existing_block(provider, BlockNumberOrTag::Latest).await?;
    let header = header::fetch(provider, block.number).await?;
    let (contract, slot) = (asked.kept_by(deployment.court), asked.slot());
    let action = format!("reading a proof of the challenge in block {}", block.number);
    let proof = endpoint::ask(action.clone(), async {
        provider.get_proof(contract, vec![slot]).block_id(BlockId::number(block.number)).await
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
