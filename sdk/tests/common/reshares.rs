//! The part of the walk in which a key moves to other committees.

use std::{collections::BTreeMap, path::Path};

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::{Provider as _, ProviderBuilder},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol,
    sol_types::{SolStruct as _, SolValue as _},
};
use stkr_core::{Threshold, testing::TrustedDealer};
use stkr_protocol::{SignerKey, silence::SilenceVote};
use stkr_sdk::{KeyState, ReshareInfo, ReshareState, amount};

use super::{
    Chain,
    evidence::{Accused, domain},
    wallet,
    writes::{DAY, Step, Walk},
};

sol! {
    struct ReshareAcknowledgement {
        uint256 keyId;
        uint32 committeeEpoch;
        uint16 attempt;
        uint8 threshold;
        bytes32 pointsHash;
        bytes32 committeeHash;
        bytes32 dealingsDigest;
    }
}

impl<F: AsyncFn(&Step) -> B256> Walk<'_, F> {
    /// A member is voted silent, its seat goes to another server, and the key stays what it was. Returns the new committee's epoch.
    pub(super) async fn reshares(&mut self, key: u64, dealer: &TrustedDealer) -> u32 {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let before = stkr.reshares().get(key).await.unwrap();
        assert_eq!((before.committee_epoch, before.state, &before.next), (0, ReshareState::None, &None));
        let whole = stkr.reshares().request(key).await.unwrap();
        let refused = whole.dry_run(chain.account().await.address()).await.unwrap_err().to_string();
        assert!(refused.starts_with(&format!("no member of key {key} is lost")), "{refused}");
        let early = stkr.reshares().draw(key).await.unwrap_err().to_string();
        assert!(early.contains("waits for a draw"), "{early}");

        let silent = before.committee[1];
        self.vote(&before, silent).await;
        self.request(key).await;
        let requested = stkr.reshares().get(key).await.unwrap();
        assert_eq!(requested.state, ReshareState::Requested);
        let next = requested.next.unwrap();
        assert_eq!((next.seats[1], next.dealers), (0, vec![1, 3, 4]));
        self.draw_reshare(key).await;
        chain.pass(2 * DAY + 1).await;
        let write = stkr.reshares().restart(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("reshare restart {key}")).await;
        self.draw_reshare(key).await;

        let drawn = stkr.reshares().get(key).await.unwrap();
        self.finalise_reshare(&drawn, dealer).await;
        let after = stkr.reshares().get(key).await.unwrap();
        assert_eq!((after.committee_epoch, after.serving_epoch, after.state), (1, 0, ReshareState::None));
        assert_eq!(after.committee, drawn.next.unwrap().seats);
        assert!(!after.committee.contains(&silent));
        // The vote has run out too, so the one that was silent can be drawn again.
        chain.pass(21 * DAY).await;
        assert_eq!(stkr.reshares().get(key).await.unwrap().serving_epoch, 1);
        // A second one is under way when the key ends.
        self.vote(&after, after.committee[2]).await;
        self.request(key).await;
        self.draw_reshare(key).await;
        1
    }

    pub(super) async fn cancelled_reshare(&mut self, key: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let write = stkr.reshares().cancel(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("reshare cancel {key}")).await;
        assert_eq!(stkr.reshares().get(key).await.unwrap().state, ReshareState::None);
        assert_ne!(stkr.keys().get(key).await.unwrap().state, KeyState::Live);
    }

    pub(super) async fn past_seats(&mut self, key: u64, epoch: u32) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let first = stkr.reshares().free_past_seats(key, 0).await.unwrap_err().to_string();
        assert!(first.contains("before the first"), "{first}");
        let write = stkr.reshares().free_past_seats(key, epoch).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("reshare free-seats {key} {epoch}")).await;
    }

    /// All members but the silent one.
    async fn vote(&mut self, info: &ReshareInfo, silent: u32) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let head = chain.provider.get_block(BlockId::latest()).await.unwrap().unwrap();
        let vote = SilenceVote {
            key_id: info.key_id,
            committee_epoch: info.committee_epoch,
            server: silent,
            until: head.header.timestamp + 20 * DAY,
        };
        let mut arguments = format!("reshare vote {}", info.key_id);
        let mut votes = Vec::new();
        for id in info.committee.iter().filter(|id| **id != silent) {
            let key = SignerKey::from_bytes(&self.signers[id].to_bytes().0).unwrap();
            let signed = vote.sign(&domain(&chain.deployment), &key);
            let file = self.folder.join(format!("vote-{}-{}-{id}.json", info.key_id, info.committee_epoch));
            std::fs::write(&file, serde_json::to_vec(&signed).unwrap()).unwrap();
            arguments.push_str(&format!(" --vote {}", file.display()));
            votes.push(signed);
        }
        let write = stkr.reshares().vote_silent(info.key_id, &votes).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &arguments).await;
    }

    async fn request(&mut self, key: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let write = stkr.reshares().request(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("reshare request {key}")).await;
    }

    async fn draw_reshare(&mut self, key: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        chain.mine(3).await;
        let write = stkr.reshares().draw(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("reshare draw {key}")).await;
        let drawn = stkr.reshares().get(key).await.unwrap();
        let next = drawn.next.unwrap();
        assert_eq!((drawn.state, next.dealers.len()), (ReshareState::Drawn, 3));
        assert!(next.seats.iter().all(|id| *id != 0) && next.handover > next.mark);
    }

    /// The same secret on another polynomial, acknowledged by the real members.
    async fn finalise_reshare(&mut self, drawn: &ReshareInfo, dealer: &TrustedDealer) -> TrustedDealer {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let (key, next) = (drawn.key_id, drawn.next.as_ref().unwrap());
        let moved = dealer.reshare(Threshold::new(3, 4).unwrap(), [0x5e; 32]);
        assert_eq!(moved.keys.group_key(), dealer.keys.group_key());
        let (share_keys, group_key) = (moved.keys.share_keys(), &moved.keys.group_key());
        let points: Vec<u8> = share_keys.iter().chain([group_key]).flat_map(|key| key.to_eip2537()).collect();
        let signers: Vec<&PrivateKeySigner> = next.seats.iter().map(|id| &self.signers[id]).collect();
        let addresses: Vec<Address> = signers.iter().map(|signer| signer.address()).collect();
        let digest = B256::repeat_byte(0x5d);
        let acknowledgement = ReshareAcknowledgement {
            keyId: U256::from(key),
            committeeEpoch: drawn.committee_epoch + 1,
            attempt: next.attempt,
            threshold: next.threshold,
            pointsHash: keccak256(&points),
            committeeHash: keccak256((next.seats.clone(), addresses).abi_encode_params()),
            dealingsDigest: digest,
        }
        .eip712_signing_hash(&domain(&chain.deployment).eip712());
        let acknowledgements: Vec<Bytes> = signers
            .iter()
            .map(|signer| Bytes::copy_from_slice(&signer.sign_hash_sync(&acknowledgement).unwrap().as_bytes()))
            .collect();
        let file = self.transcript(&format!("reshare-{key}.json"), &moved, digest, &acknowledgements);
        let write = stkr.reshares().finalise(key, share_keys, group_key, digest, &acknowledgements).await.unwrap();
        let arguments = format!("reshare finalise {key} --transcript {}", file.display());
        self.step(&chain.account().await, write.unsigned(), &arguments).await;
        moved
    }
}

/// A committee of a key, and the signer keys and shares of its members in index order.
pub(crate) struct Term {
    pub(crate) epoch: u32,
    pub(crate) servers: Vec<u32>,
    pub(crate) signers: Vec<PrivateKeySigner>,
    pub(crate) dealer: TrustedDealer,
}

/// A 3-of-4 key of a pool whose deposit is ordered. Its second member was voted silent, and committee 1 is finalised: another server
/// has that seat from the handover on, which [`ResharedKey::hand_over`] waits for.
pub(crate) struct ResharedKey {
    pub(crate) key: u64,
    pub(crate) pool: u64,
    /// Committees 0 and 1.
    pub(crate) terms: [Term; 2],
    /// Accounts of the servers' operators, by id.
    pub(crate) operators: BTreeMap<u32, PrivateKeySigner>,
}

impl ResharedKey {
    /// On a new chain.
    pub(crate) async fn make(chain: &Chain, folder: &Path) -> Self {
        let stkr = chain.stkr().await;
        let send = async |step: &Step| {
            let provider = ProviderBuilder::new().wallet(wallet(&step.signer)).connect_http(chain.url.parse().unwrap());
            *provider.send_transaction(step.unsigned.clone()).await.unwrap().tx_hash()
        };
        let mut walk = Walk::begin(chain, folder, send);
        walk.servers().await;
        let provider = walk.provider().await;
        let pool = walk.open(&provider).await;
        walk.stake(pool, &chain.account().await, amount::POOL_SIZE).await;
        let key = walk.request_key(pool).await;
        walk.draw(key).await;
        let dealer = walk.finalise(key).await;
        walk.order_deposit(pool).await;

        let before = stkr.reshares().get(key).await.unwrap();
        walk.vote(&before, before.committee[1]).await;
        walk.request(key).await;
        walk.draw_reshare(key).await;
        let drawn = stkr.reshares().get(key).await.unwrap();
        let moved = walk.finalise_reshare(&drawn, &dealer).await;
        let term = |epoch, servers: Vec<u32>, dealer| {
            let signers = servers.iter().map(|id| walk.signers[id].clone()).collect();
            Term { epoch, servers, signers, dealer }
        };
        let terms = [term(0, before.committee, dealer), term(1, drawn.next.unwrap().seats, moved)];
        Self { key, pool, terms, operators: walk.operators }
    }

    /// Lets the time pass until committee 1 serves.
    pub(crate) async fn hand_over(&self, chain: &Chain) {
        chain.pass(3 * DAY).await;
        assert_eq!(chain.stkr().await.reshares().get(self.key).await.unwrap().serving_epoch, 1);
    }

    pub(crate) fn accused(&self, epoch: usize) -> Accused<'_> {
        let Term { servers, signers, dealer, .. } = &self.terms[epoch];
        Accused { key: self.key, dealer, committee: servers.clone(), signers: signers.clone() }
    }
}
