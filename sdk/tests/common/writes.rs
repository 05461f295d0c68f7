//! Every write there is, in an order in which each succeeds: one table for the SDK and for the command line.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::{PendingTransactionConfig, Provider as _},
    rpc::types::TransactionRequest,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol,
    sol_types::{SolStruct as _, SolValue as _, eip712_domain},
};
use serde_json::json;
use stkr_chain::court::COMMITMENT_BLOCKS;
use stkr_core::{Threshold, testing::TrustedDealer};
use stkr_sdk::{
    Asks, ChallengeInfo, ChallengeState, ContractError, KeyState, PoolState, Registration, ServerKind, ServerStatus,
    StkrError, amount, bindings::KeyRegistry, bindings::Micropools, duty_key_digest,
};

use stkr_protocol::{
    evidence::{EvidenceFile, Fault, Proof, UnansweredProof},
    messages::{Body, DealingBody, Round, SignedMessage},
    state::testing::storage_proof,
};

use super::{
    Chain, ceremony,
    evidence::{Accused, domain, signer_key},
    wallet,
};

sol! {
    #[sol(rpc)]
    interface IManager {
        function grantRole(uint64 roleId, address account, uint32 executionDelay) external;
    }
    struct DealtAcknowledgement {
        address owner;
        uint8 threshold;
        bytes32 pointsHash;
        bytes32 committeeHash;
        bytes32 historyHash;
    }

    struct Acknowledgement {
        uint256 keyId;
        uint16 attempt;
        uint8 threshold;
        bytes32 pointsHash;
        bytes32 committeeHash;
        bytes32 dealingsDigest;
    }
}

pub(super) const DAY: u64 = 86_400;
/// Delay of the second governor, seconds.
const DELAY: u32 = 3600;

/// One write: as the SDK makes it, and as the command line does.
pub(crate) struct Step {
    /// Who signs.
    pub(crate) signer: PrivateKeySigner,
    /// What the SDK hands out for a wallet.
    pub(crate) unsigned: TransactionRequest,
    /// Arguments of `stkr` for the same.
    pub(crate) arguments: Vec<String>,
}

/// The walk through all writes; `send` gets a step into a block and says its transaction.
pub(crate) struct Walk<'a, F> {
    pub(super) chain: &'a Chain,
    pub(super) folder: &'a Path,
    send: F,
    /// Contract and function of every write that succeeded.
    done: BTreeSet<(Address, [u8; 4])>,
    /// Signer keys of the servers, by id.
    pub(super) signers: BTreeMap<u32, PrivateKeySigner>,
    /// Accounts that registered the servers, by id.
    pub(super) operators: BTreeMap<u32, PrivateKeySigner>,
    /// The provider's duty key.
    /// The provider's, in the order in which it named them.
    duty_keys: Vec<PrivateKeySigner>,
}

/// What every write of the walk called.
pub(crate) async fn walk(
    chain: &Chain,
    folder: &Path,
    send: impl AsyncFn(&Step) -> B256,
) -> BTreeSet<(Address, [u8; 4])> {
    let mut walk = Walk::begin(chain, folder, send);
    walk.servers().await;
    let provider = walk.provider().await;
    walk.positions(&provider).await;
    walk.key_and_deposit(&provider).await;
    walk.foreign_deposit(&provider).await;
    walk.ways_out(&provider).await;
    walk.withdrawal_keys(&provider).await;
    walk.dealt_key().await;
    walk.governance().await;
    walk.leaving().await;
    walk.done
}

impl<'a, F: AsyncFn(&Step) -> B256> Walk<'a, F> {
    pub(super) const fn begin(chain: &'a Chain, folder: &'a Path, send: F) -> Self {
        Self {
            chain,
            folder,
            send,
            done: BTreeSet::new(),
            signers: BTreeMap::new(),
            operators: BTreeMap::new(),
            duty_keys: Vec::new(),
        }
    }

    pub(super) async fn step(&mut self, signer: &PrivateKeySigner, unsigned: TransactionRequest, arguments: &str) {
        let to = *unsigned.to.unwrap().to().unwrap();
        let selector: [u8; 4] = unsigned.input.input().unwrap()[..4].try_into().unwrap();
        let arguments = arguments.split_whitespace().map(str::to_owned).collect();
        let step = Step { signer: signer.clone(), unsigned, arguments };
        let transaction = (self.send)(&step).await;
        // anvil makes the block after it has answered.
        let mined = PendingTransactionConfig::new(transaction).with_timeout(Some(Duration::from_secs(30)));
        let mined = self.chain.provider.watch_pending_transaction(mined);
        mined.await.unwrap().await.unwrap();
        let receipt = self.chain.provider.get_transaction_receipt(transaction).await.unwrap().unwrap();
        assert!(receipt.status(), "{:?} failed", step.arguments);
        assert_eq!((receipt.to, receipt.from), (Some(to), signer.address()));
        self.done.insert((to, selector));
    }

    pub(super) async fn servers(&mut self) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let governor = chain.governor.clone();
        let bond = stkr.servers().min_bond().await.unwrap();
        let manager = IManager::new(chain.deployment.access_manager, &chain.provider);
        // A second governor, who has to announce everything first.
        let slow = chain.account().await;
        let grant = manager.grantRole(1, slow.address(), DELAY).into_transaction_request();
        let signing =
            alloy::providers::ProviderBuilder::new().wallet(wallet(&governor)).connect_http(chain.url.parse().unwrap());
        assert!(signing.send_transaction(grant).await.unwrap().get_receipt().await.unwrap().status());

        for id in 1..=5 {
            let (signer, operator) = (PrivateKeySigner::random(), chain.account().await);
            let with: Registration = chain.registration_of(&signer, operator.address(), bond);
            let file = self.folder.join(format!("server-{id}.json"));
            let args = json!({"signer": with.signer, "tlsFingerprint": with.tls_fingerprint, "kind": with.kind,
                "endpoint": with.endpoint, "signerProof": with.signer_proof});
            std::fs::write(&file, args.to_string()).unwrap();
            let arguments = format!("server register --args {} --bond {bond}wei", file.display());
            self.step(&operator, stkr.servers().register(with).unwrap().unsigned(), &arguments).await;
            self.signers.insert(id, signer);
            self.operators.insert(id, operator.clone());
            if id == 1 {
                let approve = stkr.servers().approve(id);
                let announced = stkr.schedule(&approve).unsigned();
                self.step(&slow, announced, "server approve 1 --schedule").await;
                assert_eq!(stkr.servers().get(id).await.unwrap().status, ServerStatus::Registered);
                chain.pass(DELAY.into()).await;
                self.step(&slow, approve.unsigned(), "server approve 1").await;
                let write = stkr.servers().add_bond(id, amount::ether(1)).unwrap();
                self.step(&operator, write.unsigned(), "server add-bond 1 1eth").await;
                let (print, at) = (B256::repeat_byte(9), "https://127.0.0.1:9001");
                let write = stkr.servers().set_endpoint(id, print, at).unwrap();
                let arguments = format!("server set-endpoint 1 --tls-fingerprint {print} --endpoint {at}");
                self.step(&operator, write.unsigned(), &arguments).await;
                let write = stkr.servers().suspend(id, "slow").unwrap();
                self.step(&governor, write.unsigned(), "server suspend 1 slow").await;
                assert_eq!(stkr.servers().get(id).await.unwrap().status, ServerStatus::Suspended);
            }
            self.step(&governor, stkr.servers().approve(id).unsigned(), &format!("server approve {id}")).await;
        }
        let servers = stkr.servers().list().await.unwrap();
        assert!(servers.iter().all(|server| server.status == ServerStatus::Active), "{servers:?}");
        assert_eq!(
            (servers[0].bond, servers[0].endpoint.as_str()),
            (bond + amount::ether(1), "https://127.0.0.1:9001")
        );
    }

    pub(super) async fn provider(&mut self) -> PrivateKeySigner {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let provider = chain.account().await;
        for (command, first) in [("register", true), ("set-duty-key", false)] {
            let duty_key = PrivateKeySigner::random();
            let digest = duty_key_digest(&chain.deployment, provider.address(), duty_key.address());
            let proof = Bytes::copy_from_slice(&duty_key.sign_hash_sync(&digest).unwrap().as_bytes());
            let key = duty_key.address();
            let providers = stkr.providers();
            let write =
                if first { providers.register(key, proof.clone()) } else { providers.set_duty_key(key, proof.clone()) };
            let arguments = format!("provider {command} --duty-key {key} --proof {proof}");
            self.step(&provider, write.unwrap().unsigned(), &arguments).await;
            assert_eq!(stkr.providers().get(provider.address()).await.unwrap().duty_key, key);
            self.duty_keys.push(duty_key);
            chain.pass(60).await;
        }
        provider
    }

    pub(super) async fn open(&mut self, provider: &PrivateKeySigner) -> u64 {
        let stkr = self.chain.stkr().await;
        let write = stkr.pools().open(3, 4).unwrap();
        self.step(provider, write.unsigned(), "pool open --threshold 3 --members 4").await;
        u64::try_from(stkr.pools().list().await.unwrap().len()).unwrap()
    }

    pub(super) async fn stake(&mut self, pool: u64, staker: &PrivateKeySigner, wei: U256) {
        let stkr = self.chain.stkr().await;
        let write = stkr.pools().stake(pool, wei).unwrap();
        self.step(staker, write.unsigned(), &format!("pool stake {pool} {wei}wei")).await;
    }

    async fn positions(&mut self, provider: &PrivateKeySigner) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let pool = self.open(provider).await;
        let [alice, bob, carol] = [chain.account().await, chain.account().await, chain.account().await];
        let (a, b, c) = (alice.address(), bob.address(), carol.address());
        let (one, pools) = (amount::ether(1), stkr.pools());
        self.stake(pool, &alice, amount::ether(10)).await;
        let little = amount::parse("0.25").unwrap();
        let write = pools.increase(pool, little).unwrap();
        self.step(&alice, write.unsigned(), &format!("pool stake {pool} 0.25eth --add")).await;
        let write = pools.transfer(pool, b, one).unwrap();
        self.step(&alice, write.unsigned(), &format!("pool transfer {pool} {b} 1eth")).await;
        let write = pools.approve(pool, b, one).unwrap();
        self.step(&alice, write.unsigned(), &format!("pool approve {pool} {b} 1eth")).await;
        assert_eq!(stkr.positions().allowance(a, b, pool).await.unwrap(), one);
        let write = pools.transfer_from(pool, a, c, one).unwrap();
        self.step(&bob, write.unsigned(), &format!("pool transfer-from {pool} {a} {c} 1eth")).await;
        assert_eq!(stkr.positions().allowance(a, b, pool).await.unwrap(), U256::ZERO);
        for (approved, flag) in [(true, ""), (false, "--revoke")] {
            let write = pools.set_operator(c, approved).unwrap();
            self.step(&alice, write.unsigned(), &format!("pool set-operator {c} {flag}")).await;
            assert_eq!(stkr.positions().is_operator(a, c).await.unwrap(), approved);
        }
        let write = pools.leave(pool, one).unwrap();
        self.step(&alice, write.unsigned(), &format!("pool leave {pool} 1eth")).await;
        for (account, wei) in [(a, amount::ether(7) + little), (b, one), (c, one)] {
            assert_eq!(stkr.positions().balance(account, pool).await.unwrap(), wei);
        }
        let room = stkr.pools().get(pool).await.unwrap().room();
        self.stake(pool, &bob, room).await;
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Full);
    }

    pub(super) async fn request_key(&mut self, pool: u64) -> u64 {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let anyone = chain.account().await;
        let write = stkr.pools().request_key(pool);
        self.step(&anyone, write.unsigned(), &format!("pool request-key {pool}")).await;
        stkr.pools().get(pool).await.unwrap().key_id
    }

    pub(super) async fn draw(&mut self, key: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        chain.mine(3).await;
        let write = stkr.keys().draw(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("key draw {key}")).await;
        let drawn = stkr.keys().get(key).await.unwrap();
        assert_eq!((drawn.state, drawn.committee.len()), (KeyState::Drawn, 4));
    }

    /// A ceremony whose outcome one dealer made, acknowledged by the real members.
    pub(super) async fn finalise(&mut self, key: u64) -> TrustedDealer {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let info = stkr.keys().get(key).await.unwrap();
        let seed = B256::from(U256::from(key)).0;
        let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), seed);
        let (share_keys, group_key) = (dealer.keys.share_keys(), &dealer.keys.group_key());
        let points: Vec<u8> = share_keys.iter().chain([group_key]).flat_map(|key| key.to_eip2537()).collect();
        let signers: Vec<&PrivateKeySigner> = info.committee.iter().map(|id| &self.signers[id]).collect();
        let addresses: Vec<Address> = signers.iter().map(|signer| signer.address()).collect();
        let digest = B256::repeat_byte(0xdd);
        let domain = eip712_domain! {
            name: "Stkr",
            version: "1",
            chain_id: chain.deployment.chain_id,
            verifying_contract: chain.deployment.key_registry,
        };
        let acknowledgement = Acknowledgement {
            keyId: U256::from(key),
            attempt: info.attempt,
            threshold: info.threshold,
            pointsHash: keccak256(&points),
            committeeHash: keccak256((info.committee.clone(), addresses).abi_encode_params()),
            dealingsDigest: digest,
        }
        .eip712_signing_hash(&domain);
        let acknowledgements: Vec<Bytes> = signers
            .iter()
            .map(|signer| Bytes::copy_from_slice(&signer.sign_hash_sync(&acknowledgement).unwrap().as_bytes()))
            .collect();
        let file = self.transcript(&format!("transcript-{key}.json"), &dealer, digest, &acknowledgements);
        let write = stkr.keys().finalise(key, share_keys, group_key, digest, &acknowledgements).await.unwrap();
        let arguments = format!("key finalise {key} --transcript {}", file.display());
        self.step(&chain.account().await, write.unsigned(), &arguments).await;
        let live = stkr.keys().get(key).await.unwrap();
        let public = Bytes::copy_from_slice(&group_key.to_compressed());
        assert_eq!((live.state, live.public_key), (KeyState::Live, Some(public)));
        dealer
    }

    /// What a ceremony or reshare gave, as the file that `stkr` takes.
    pub(super) fn transcript(
        &self,
        name: &str,
        dealer: &TrustedDealer,
        digest: B256,
        acknowledgements: &[Bytes],
    ) -> PathBuf {
        let file = self.folder.join(name);
        let compressed = |key: &stkr_sdk::PublicKey| Bytes::copy_from_slice(&key.to_compressed());
        let share_keys: Vec<Bytes> = dealer.keys.share_keys().iter().map(compressed).collect();
        let group_key = compressed(&dealer.keys.group_key());
        let transcript = json!({"shareKeys": share_keys, "groupKey": group_key, "dealingsDigest": digest,
            "acknowledgements": acknowledgements});
        std::fs::write(&file, transcript.to_string()).unwrap();
        file
    }

    /// A key that its owner dealt to the first four servers.
    async fn dealt_key(&mut self) {
        let (chain, stkr, owner) = (self.chain, self.chain.stkr().await, self.chain.account().await);
        let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [0xd0; 32]);
        let committee: Vec<u32> = (1..=4).collect();
        let signers: Vec<&PrivateKeySigner> = committee.iter().map(|id| &self.signers[id]).collect();
        let (dealt, arguments) = dealt_import(chain, self.folder, &dealer, &owner, (&committee, &signers));
        let write = stkr.keys().import_dealt(dealt).unwrap();
        self.step(&owner, write.unsigned(), &arguments).await;
        let id = u64::try_from(stkr.keys().list().await.unwrap().len()).unwrap();
        assert_eq!(stkr.keys().get(id).await.unwrap().state, KeyState::Live);
        let write = stkr.keys().set_duty_key(id, owner.address());
        self.step(&owner, write.unsigned(), &format!("key set-duty-key {id} {}", owner.address())).await;
        self.step(&owner, stkr.keys().retire_dealt(id).unsigned(), &format!("key retire {id}")).await;
        assert_eq!(stkr.keys().get(id).await.unwrap().state, KeyState::Retired);
    }

    pub(super) async fn order_deposit(&mut self, pool: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let write = stkr.pools().order_deposit(pool).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("pool order-deposit {pool}")).await;
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::KeyReady);
    }

    async fn signing_root(&self, dealer: &TrustedDealer, credentials: B256) -> B256 {
        let micropools = Micropools::new(self.chain.deployment.micropools, &self.chain.provider);
        let pubkey = Bytes::copy_from_slice(&dealer.keys.group_key().to_compressed());
        micropools.depositSigningRoot(pubkey, credentials, 1_000_000_000).call().await.unwrap()
    }

    async fn key_and_deposit(&mut self, provider: &PrivateKeySigner) {
        let (chain, stkr, pool) = (self.chain, self.chain.stkr().await, 1);
        let key = self.request_key(pool).await;
        self.draw(key).await;
        let before = stkr.keys().get(key).await.unwrap();

        // Nobody finalises in time. With all members active the same committee tries again.
        chain.pass(2 * DAY + 1).await;
        let write = stkr.keys().restart(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("key restart {key}")).await;
        let again = stkr.keys().get(key).await.unwrap();
        assert_eq!((again.state, again.attempt), (KeyState::Drawn, 1));
        assert_eq!(again.committee, before.committee);

        // With one suspended another draw is due, and until then there is no committee.
        let lost = again.committee[0];
        let suspend = stkr.servers().suspend(lost, "down").unwrap();
        self.step(&chain.governor.clone(), suspend.unsigned(), &format!("server suspend {lost} down")).await;
        chain.pass(2 * DAY + 1).await;
        let write = stkr.keys().restart(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("key restart {key}")).await;
        let requested = stkr.keys().get(key).await.unwrap();
        assert_eq!((requested.state, requested.attempt), (KeyState::Requested, 2));
        assert_eq!(requested.committee, [0; 0], "the old committee serves no more");
        self.draw(key).await;
        assert!(!stkr.keys().get(key).await.unwrap().committee.contains(&lost));
        let approve = stkr.servers().approve(lost);
        self.step(&chain.governor.clone(), approve.unsigned(), &format!("server approve {lost}")).await;

        let dealer = self.finalise(key).await;
        self.order_deposit(pool).await;
        let root = self.signing_root(&dealer, chain.deployment.withdrawal_credentials(pool)).await;
        assert!(stkr.keys().is_ordered(key, root).await.unwrap());
        let signature = dealer.group_signature(&root);
        let write = stkr.pools().predeposit(pool, &signature).await.unwrap();
        let hex = Bytes::copy_from_slice(&signature.to_compressed());
        self.step(&chain.account().await, write.unsigned(), &format!("pool predeposit {pool} --signature {hex}")).await;
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Predeposited);
        chain.pass(DAY).await;
        let write = stkr.pools().top_up(pool).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("pool topup {pool}")).await;
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Active);
        let deposits = chain.provider.get_balance(chain.deployment.deposit_contract).await.unwrap();
        assert_eq!(deposits, amount::POOL_SIZE);
        self.challenges(key, &dealer).await;
        self.faults(provider, key, &dealer).await;
    }

    /// Everything about challenges: one that is answered, one that nobody answers, and what nobody can ask for or answer with.
    async fn challenges(&mut self, key: u64, dealer: &TrustedDealer) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let committee = stkr.keys().get(key).await.unwrap().committee;
        let signers = committee.iter().map(|id| self.signers[id].clone()).collect();
        let member = Accused { key, dealer, committee: committee.clone(), signers };
        let (challenger, id) = (chain.account().await, committee[1]);
        let challenges = stkr.challenges();
        let asked = challenges.ordered(key).await.unwrap();
        let root = asked.signing_root();
        self.refused_questions(key, id, root).await;

        let question = challenges.question(key, id, root).await.unwrap();
        let fee = amount::parse("0.01").unwrap();
        let write = challenges.open(&question, Some(fee)).await.unwrap();
        self.step(&challenger, write.unsigned(), &format!("challenge open {key} {id} --fee 0.01eth")).await;
        let again = challenges.open(&question, Some(fee)).await.unwrap_err();
        assert!(again.to_string().contains("is being asked for this already"), "{again}");
        let open = challenges.get(key, id, root).await.unwrap();
        assert_eq!((open.state, open.challenger, open.fee), (ChallengeState::Open, challenger.address(), fee));
        let early = challenges.evidence(&open).await.unwrap_err();
        assert!(early.to_string().contains("can still answer"), "{early}");
        let early = challenges.prove((key, 2, root)).dry_run(challenger.address()).await.unwrap_err();
        assert!(early.to_string().starts_with("the server may still answer, up to block"), "{early}");

        let wrong = member.answer(&chain.deployment, &asked, false);
        let error = challenges.answer(&question, &asked.subject(), &wrong).unwrap_err();
        assert!(error.to_string().contains("would convict the server"), "{error}");
        let right = member.answer(&chain.deployment, &asked, true);
        let other = challenges.question(key, committee[2], root).await.unwrap();
        let error = challenges.answer(&other, &asked.subject(), &right).unwrap_err();
        assert!(error.to_string().contains("no answer of server"), "{error}");
        let path = self.folder.join("answer.json");
        std::fs::write(&path, serde_json::to_vec(&right).unwrap()).unwrap();
        let write = challenges.answer(&question, &asked.subject(), &right).unwrap();
        let arguments = format!("challenge answer {key} {id} --answer {}", path.display());
        self.step(&chain.account().await, write.unsigned(), &arguments).await;
        assert_eq!(challenges.get(key, id, root).await.unwrap().state, ChallengeState::Answered);
        let operator = self.operators[&id].clone();
        assert_eq!(challenges.fees_of(operator.address()).await.unwrap(), fee);
        self.step(&operator, challenges.withdraw_fees().unsigned(), "challenge withdraw").await;
        assert_eq!(challenges.fees_of(operator.address()).await.unwrap(), U256::ZERO);

        let write = challenges.open(&question, Some(fee)).await.unwrap();
        self.step(&challenger, write.unsigned(), &format!("challenge open {key} {id} --fee 10000000gwei")).await;
        // In pieces: anvil needs longer for all of them than a request may take.
        for _ in 0..13 {
            chain.mine(554).await;
        }
        let file = self.evidence_of_silence(&challenges.get(key, id, root).await.unwrap()).await;
        self.only_an_early_end_excuses(key, &file).await;
        let write = challenges.answer(&question, &asked.subject(), &right).unwrap();
        let late = write.dry_run(operator.address()).await.unwrap_err();
        assert!(late.to_string().starts_with("the last moment for an answer was block"), "{late}");
        let write = challenges.prove((key, 2, root));
        self.step(&chain.account().await, write.unsigned(), &format!("challenge prove {key} {id}")).await;
        let over = challenges.evidence(&challenges.get(key, id, root).await.unwrap()).await.unwrap_err();
        assert!(matches!(over, StkrError::NotFound { .. }), "the Court has forgotten the challenge: {over}");
        let states: Vec<ChallengeState> = challenges.list().await.unwrap().iter().map(|it| it.state).collect();
        assert_eq!(states, [ChallengeState::Answered, ChallengeState::Unanswered]);
        assert!(stkr.servers().get(id).await.unwrap().locked_out);
        assert_eq!(challenges.fees_of(challenger.address()).await.unwrap(), fee);
        assert!(stkr.servers().bounty_of(challenger.address()).await.unwrap() > U256::ZERO);
    }

    /// Everything about challenges to acknowledge a key that is being made: each answer there is, and none.
    async fn acknowledgements(&mut self, key: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let committee = stkr.keys().get(key).await.unwrap().committee;
        let signers: Vec<PrivateKeySigner> = committee.iter().map(|id| self.signers[id].clone()).collect();
        let all = ceremony::messages(&chain.deployment, key, &committee, &signers);
        let (acknowledged, said): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|message| message.round() == Round::Acknowledgement);
        self.refused_acknowledgements(key, &committee, &said, &acknowledged).await;
        let (relayer, challenger) = (ceremony::bulletin(key, &said), chain.account().await);

        // A member acknowledges.
        self.ask_to_acknowledge(key, committee[0], &relayer, &challenger).await;
        let challenges = stkr.challenges();
        let asked = challenges.asked_acknowledgement(key, committee[0]).await.unwrap();
        let silent = challenges.acknowledge(&asked, &ceremony::acknowledged(said.clone())).unwrap_err();
        assert!(silent.to_string().contains("neither its acknowledgement nor proof of a fault"), "{silent}");
        let answer = ceremony::acknowledged(acknowledged.clone());
        let write = challenges.acknowledge(&asked, &answer).unwrap();
        self.answer_acknowledgement(key, committee[0], &answer, write.unsigned()).await;
        let state = async |id| stkr.challenges().get_acknowledgement(key, id).await.unwrap().state;
        assert_eq!(state(committee[0]).await, ChallengeState::Answered);
        let operator = self.operators[&committee[0]].clone();
        assert!(challenges.acknowledgement_fees_of(operator.address()).await.unwrap() > U256::ZERO);
        let write = challenges.withdraw_acknowledgement_fees().unsigned();
        self.step(&operator, write, "challenge withdraw --acknowledgements").await;
        assert_eq!(challenges.acknowledgement_fees_of(operator.address()).await.unwrap(), U256::ZERO);

        // Another shows each fault of the second member for which an honest one gives no acknowledgement.
        let dealer = TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [9; 32]);
        let accused = Accused { key, dealer: &dealer, committee: committee.clone(), signers };
        let faults = [Fault::BadDealing, Fault::MalformedDealing, Fault::CeremonyEquivocation];
        for file in accused.every_fault(&chain.deployment) {
            let is_answer = faults.contains(&file.proof.fault());
            if is_answer {
                self.ask_to_acknowledge(key, committee[2], &relayer, &challenger).await;
            }
            let asked = stkr.challenges().asked_acknowledgement(key, committee[2]).await;
            let Ok(asked) = asked else { continue };
            match stkr.challenges().refuse(&asked, &file) {
                Ok(write) => self.answer_acknowledgement(key, committee[2], &file, write.unsigned()).await,
                Err(error) => {
                    assert!(!is_answer && error.to_string().contains("proves no fault of a member"), "{error}")
                }
            }
            assert!(!is_answer || state(committee[2]).await == ChallengeState::Refused);
            if is_answer {
                // Who is at fault pays with the answer.
                assert!(stkr.servers().get(committee[1]).await.unwrap().locked_out);
                self.reinstate(committee[1]).await;
            }
        }

        // The last says nothing, and a restart does not save it.
        self.ask_to_acknowledge(key, committee[3], &relayer, &challenger).await;
        let early = challenges.prove_unacknowledged((key, 0, 4)).dry_run(challenger.address()).await.unwrap_err();
        assert!(early.to_string().starts_with("the server may still answer"), "{early}");
        let asked = challenges.asked_acknowledgement(key, committee[3]).await.unwrap();
        // Neither what has nothing to do with ceremonies nor what happened in another one is a reason.
        let elsewhere = Accused { key: key + 1, ..accused };
        for file in elsewhere.every_fault(&chain.deployment) {
            let error = challenges.refuse(&asked, &file).unwrap_err();
            assert!(error.to_string().contains("proves no fault of a member of the ceremony"), "{error}");
        }
        chain.pass(DAY + 60).await;
        let overdue = challenges.get_acknowledgement(key, committee[3]).await.unwrap();
        let file = self.evidence_of_silence(&overdue).await;
        let late = challenges.acknowledge(&asked, &ceremony::acknowledged(acknowledged)).unwrap();
        let late = late.dry_run(operator.address()).await.unwrap_err();
        assert!(late.to_string().starts_with("the last moment for an answer was 20"), "{late}");
        let before = challenges.acknowledgement_fees_of(challenger.address()).await.unwrap();
        let write = challenges.prove_unacknowledged((key, 0, 4)).unsigned();
        assert_eq!(write, stkr.faults().prove(&file).unwrap().unsigned(), "two ways to one transaction");
        let path = self.folder.join("silence.json");
        std::fs::write(&path, serde_json::to_vec(&file).unwrap()).unwrap();
        self.step(&chain.account().await, write, &format!("evidence prove {}", path.display())).await;
        assert_eq!(stkr.faults().check(&file).await.unwrap().server_id, Some(committee[3]), "it stays evidence");
        assert_eq!(state(committee[3]).await, ChallengeState::Unanswered);
        assert!(stkr.servers().get(committee[3]).await.unwrap().locked_out);
        assert!(challenges.acknowledgement_fees_of(challenger.address()).await.unwrap() > before, "the fee comes back");

        self.reinstate(committee[3]).await;
    }

    /// Evidence that nobody answered, and what a liar makes of it.
    async fn evidence_of_silence(&self, overdue: &ChallengeInfo) -> EvidenceFile {
        let stkr = self.chain.stkr().await;
        assert_eq!(overdue.state, ChallengeState::Overdue);
        let file = stkr.challenges().evidence(overdue).await.unwrap();
        assert_eq!(stkr.faults().check(&file).await.unwrap().server_id, Some(overdue.server_id));
        let refused = stkr.faults().commit(&file, Address::ZERO).map(drop).unwrap_err();
        assert!(refused.to_string().contains("without a commitment"), "{refused}");
        // The same word in the same place of the same contract, after a block that the chain does not have.
        let Proof::UnansweredChallenge(proof) = &file.proof else { panic!("{file:?}") };
        let contract = proof.asked.kept_by(file.court);
        let state = storage_proof((u64::MAX, u64::MAX), contract, proof.asked.slot(), proof.state.word);
        let proof = Proof::UnansweredChallenge(UnansweredProof { asked: proof.asked, state });
        let made_up = EvidenceFile::new(&file.domain(), file.court, proof);
        made_up.verify().unwrap();
        let refused = stkr.faults().check(&made_up).await.unwrap_err();
        assert!(refused.to_string().contains("does not have the hash"), "{refused}");
        file
    }

    /// What the Court says of who was silent while the key was given up: before the challenge was due nobody owes anything, after
    /// it that excuses nobody. The blocks of the challenge came faster than a chain makes them, so it is not due yet.
    async fn only_an_early_end_excuses(&self, key: u64, file: &EvidenceFile) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        for (passed, owed) in [(0, false), (DAY, true)] {
            let before = chain.snapshot().await;
            chain.pass(passed).await;
            chain.retire(key).await;
            assert_eq!(stkr.keys().get(key).await.unwrap().state, KeyState::Retired);
            let checked = stkr.faults().check(file).await;
            assert_eq!(checked.is_ok(), owed, "{checked:?}");
            let reporter = chain.account().await;
            let proven = stkr.faults().prove(file).unwrap().send_with(&wallet(&reporter)).await;
            assert_eq!(proven.is_ok_and(|proven| proven.value.charged), owed);
            chain.revert(before).await;
        }
    }

    /// So that the walk goes on.
    async fn reinstate(&self, id: u32) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let bond = stkr.servers().add_bond(id, amount::ether(3)).unwrap();
        bond.send_with(&wallet(&self.operators[&id])).await.unwrap();
        stkr.servers().reinstate(id, "it-was-asleep").unwrap().send_with(&wallet(&chain.governor)).await.unwrap();
    }

    async fn ask_to_acknowledge(&mut self, key: u64, id: u32, relayer: &str, challenger: &PrivateKeySigner) {
        let stkr = self.chain.stkr().await;
        let question = stkr.challenges().acknowledgement_question(key, id, &relayer.parse().unwrap()).await.unwrap();
        let fee = Some(amount::parse("0.01").unwrap());
        let write = stkr.challenges().open_acknowledgement(&question, fee).await.unwrap().unsigned();
        let arguments = format!("challenge acknowledgement {key} {id} --relayer {relayer} --fee 0.01eth");
        self.step(challenger, write, &arguments).await;
        let open = stkr.challenges().get_acknowledgement(key, id).await.unwrap();
        assert_eq!((open.state, open.asks), (ChallengeState::Open, Asks::Acknowledgement { attempt: 0 }));
        let again = stkr.challenges().open_acknowledgement(&question, fee).await.unwrap_err();
        assert!(again.to_string().contains("is being asked for this already"), "{again}");
    }

    async fn answer_acknowledgement(
        &mut self,
        key: u64,
        id: u32,
        answer: &impl serde::Serialize,
        write: TransactionRequest,
    ) {
        let path = self.folder.join("acknowledgement.json");
        std::fs::write(&path, serde_json::to_vec(answer).unwrap()).unwrap();
        let arguments = format!("challenge answer {key} {id} --acknowledgement --answer {}", path.display());
        self.step(&self.chain.account().await, write, &arguments).await;
    }

    /// What the contract would refuse, said in one sentence before anything is paid.
    async fn refused_acknowledgements(
        &self,
        key: u64,
        committee: &[u32],
        said: &[SignedMessage],
        acknowledged: &[SignedMessage],
    ) {
        let stkr = self.chain.stkr().await;
        let outsider = (1..=5).find(|id| !committee.contains(id)).unwrap();
        let without = |round: Round, index: u8| -> Vec<SignedMessage> {
            said.iter().filter(|it| it.round() != round || it.index.get() != index).cloned().collect()
        };
        let (own, other) = (committee[0], committee[1]);
        let dealing =
            |index: u8| said.iter().find(|it| it.round() == Round::Dealing && it.index.get() == index).unwrap();
        let resigned = |change: fn(&mut DealingBody)| {
            let Body::Dealing(mut body) = dealing(2).body.clone() else { unreachable!() };
            change(&mut body);
            let (domain, key) = (domain(&self.chain.deployment), signer_key(&self.signers[&other]));
            let mut all = without(Round::Dealing, 2);
            all.push(SignedMessage::sign(&domain, &key, (dealing(2).key_id, 0, dealing(2).index), Body::Dealing(body)));
            all
        };
        let twice = [said, &resigned(|it| it.shares[0] ^= 1)].concat();
        let cases = [
            (key, outsider, said.to_vec(), "is not in the committee"),
            (1, own, said.to_vec(), "nobody owes an acknowledgement but in a ceremony"),
            (key, own, without(Round::Dealing, 2), "the dealings of members 2 are missing"),
            (key, own, [said, acknowledged].concat(), "member 1 has acknowledged"),
            (key, own, twice, "a member of this ceremony is at fault"),
            (key, own, without(Round::CommitmentSet, 1), "member 1 did not sign the set of commitments"),
            (key, other, resigned(|it| it.shares.clear()), "a member of this ceremony is at fault"),
        ];
        for (key, id, messages, says) in cases {
            let error = stkr.challenges().acknowledgement_question_from(key, id, messages).await.unwrap_err();
            assert!(error.to_string().contains(says), "{says}: {error}");
        }
        // Without its commitment nobody sees that it is not the one; for these keys nobody could acknowledge it.
        let mut other_keys = resigned(|it| it.one_time_keys_hash = B256::ZERO);
        other_keys.retain(|it| it.round() != Round::DealingCommitment || it.index.get() != 2);
        let error = stkr.challenges().acknowledgement_question_from(key, own, other_keys).await.unwrap_err();
        assert!(error.to_string().contains("was made for other one-time keys than member 1 holds"), "{error}");
        let mut another = resigned(|it| it.shares[0] ^= 1);
        another.retain(|it| it.round() != Round::DealingCommitment || it.index.get() != 2);
        let error = stkr.challenges().acknowledgement_question_from(key, own, another).await.unwrap_err();
        assert!(
            error.to_string().contains("member 1 did not sign the set of commitments to these dealings"),
            "{error}"
        );
        let nowhere = "http://127.0.0.1:1".parse().unwrap();
        let error = stkr.challenges().acknowledgement_question(key, own, &nowhere).await.unwrap_err();
        assert!(error.to_string().contains("it does not answer"), "{error}");
        let wrong = ceremony::bulletin(key + 1, said).parse().unwrap();
        let error = stkr.challenges().acknowledgement_question(key, own, &wrong).await.unwrap_err();
        assert!(error.to_string().contains("it has carried none; ask another relayer"), "{error}");
        let none = stkr.challenges().get_acknowledgement(key, own).await.unwrap_err();
        assert!(none.to_string().contains("to acknowledge key"), "{none}");
    }

    async fn refused_questions(&self, key: u64, id: u32, root: B256) {
        let stkr = self.chain.stkr().await;
        let challenges = stkr.challenges();
        let unordered = challenges.question(key, id, B256::repeat_byte(1)).await.unwrap_err();
        assert!(unordered.to_string().contains("what was not ordered must not be signed"), "{unordered}");
        let stranger = challenges.question(key, 999, root).await.unwrap_err();
        assert!(stranger.to_string().contains("server 999 holds no share of key"), "{stranger}");
        let question = challenges.question(key, id, root).await.unwrap();
        let poor = challenges.open(&question, Some(U256::from(1))).await.unwrap_err();
        assert!(poor.to_string().contains("is less than the"), "{poor}");
        let rich = challenges.open(&question, Some(amount::ether(9_000))).await.unwrap_err();
        assert!(rich.to_string().contains("more than the Court keeps"), "{rich}");
        let (least, write) = (challenges.least_fee().await.unwrap(), challenges.open(&question, None).await.unwrap());
        assert!(write.unsigned().value.unwrap() > least, "the base fee may grow before the challenge is in a block");
        let nothing = challenges.prove((key, 2, root)).dry_run(self.chain.governor.address()).await.unwrap_err();
        assert!(nothing.to_string().starts_with("no such challenge is open"), "{nothing}");
    }

    /// One proof of every fault, each reported by the same stranger; then the bounties, a new bond and the reinstatement.
    async fn faults(&mut self, provider: &PrivateKeySigner, key: u64, dealer: &TrustedDealer) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let committee = stkr.keys().get(key).await.unwrap().committee;
        let signers = committee.iter().map(|id| self.signers[id].clone()).collect();
        let accused = Accused { key, dealer, committee: committee.clone(), signers };
        let stranger = chain.account().await;
        let duty_keys = self.duty_keys.clone();
        let [old, new] = duty_keys.as_slice() else { panic!("the provider has two duty keys") };
        let assignment = stkr.keys().duty_assignment(key).await.unwrap().unwrap().number;
        let mut proofs = accused.every_fault(&chain.deployment);
        let by = |duty_keys: [&PrivateKeySigner; 2], assignment| {
            accused.equivocating_provider(&chain.deployment, duty_keys, assignment)
        };
        // It changed its duty key between the two.
        proofs.push(by([old, new], assignment));
        let faults = stkr.faults();
        let pool = stkr.pools().of_key(key).await.unwrap().unwrap();
        let root = self.signing_root(dealer, chain.deployment.withdrawal_credentials(pool)).await;
        let honest = faults.check(&accused.ordered(&chain.deployment, root)).await.unwrap_err();
        assert!(honest.to_string().contains("the chain ordered key"), "{honest}");
        // The pool says whose duty keys they are before anybody pays for a commitment.
        let error = faults.check(&by([new, new], assignment + 1)).await.unwrap_err();
        assert!(matches!(error, StkrError::Contract(ContractError::WrongAssignment(_))), "{error}");
        for framed in [[&stranger, &stranger], [new, &stranger], [&stranger, new]] {
            let error = faults.check(&by(framed, assignment)).await.unwrap_err();
            assert!(matches!(error, StkrError::Contract(ContractError::NotDutyKey(_))), "{error}");
        }
        for file in &proofs {
            let fault = file.proof.fault();
            let path = self.folder.join(format!("{fault}.json"));
            std::fs::write(&path, serde_json::to_vec(file).unwrap()).unwrap();
            let checked = faults.check(file).await.unwrap();
            assert_eq!(checked.server_id, (fault != Fault::ProviderEquivocation).then_some(committee[1]), "{fault}");
            let (at, reporter) = (path.display(), stranger.address());
            let write = faults.commit(file, reporter).unwrap();
            let arguments = format!("evidence commit {at} --reporter {reporter}");
            self.step(&stranger, write.unsigned(), &arguments).await;
            assert!(faults.committed_at(&checked.verified, reporter).await.unwrap().is_some());
            self.chain.mine(COMMITMENT_BLOCKS).await;
            let write = faults.prove(file).unwrap();
            self.step(&stranger, write.unsigned(), &format!("evidence prove {at}")).await;
            let on_record = faults.on_record(&checked.verified).await.unwrap().unwrap();
            assert_eq!(faults.check(file).await.unwrap(), checked, "{fault}: evidence stays evidence");
            assert!(on_record.judgement.charged && on_record.judgement.reporter == reporter, "{fault}: {on_record:?}");
        }
        // The same two requests are the same evidence whoever signs them, and on record only for the provider's own signatures.
        for (duty_keys, known) in [([new, new], true), ([new, old], true), ([old, &stranger], false)] {
            let file = by(duty_keys, assignment);
            assert_eq!(faults.on_record(&file.verify().unwrap()).await.unwrap().is_some(), known);
            assert_eq!(faults.check(&file).await.is_ok(), known);
        }
        // What the provider paid: a tenth is the reporter's, the rest its stakers', and its pool shall have another.
        let owed = stkr.pools().penalties(pool).await.unwrap();
        assert_eq!((owed.migration_due, owed.stakers_claim), (true, amount::parse("0.9").unwrap()));
        let penalties = stkr.providers().get(provider.address()).await.unwrap().penalties;
        assert_eq!(penalties.len(), 1, "{penalties:?}");
        assert_eq!((penalties[0].pool_id, penalties[0].reporter), (pool, stranger.address()));
        assert_eq!((penalties[0].penalty, penalties[0].bounty), (amount::ether(1), amount::parse("0.1").unwrap()));

        let culprit = committee[1];
        assert!(stkr.servers().get(culprit).await.unwrap().locked_out);
        assert!(stkr.servers().bounty_of(stranger.address()).await.unwrap() > U256::ZERO);
        let write = stkr.servers().withdraw_bounty();
        self.step(&stranger, write.unsigned(), "bounty withdraw servers").await;
        let write = stkr.pools().withdraw_bounty();
        self.step(&stranger, write.unsigned(), "bounty withdraw providers").await;
        assert_eq!(stkr.pools().bounty_of(stranger.address()).await.unwrap(), U256::ZERO);

        let operator = self.operators[&culprit].clone();
        let write = stkr.servers().add_bond(culprit, amount::ether(3)).unwrap();
        self.step(&operator, write.unsigned(), &format!("server add-bond {culprit} 3eth")).await;
        let write = stkr.servers().reinstate(culprit, "its-disk-was-full").unwrap();
        let governor = chain.governor.clone();
        self.step(&governor, write.unsigned(), &format!("server reinstate {culprit} its-disk-was-full")).await;
        let server = stkr.servers().get(culprit).await.unwrap();
        assert_eq!((server.locked_out, server.terms), (false, 1));

        let signer = PrivateKeySigner::random();
        let proof = chain.registration_of(&signer, operator.address(), U256::ZERO).signer_proof;
        let write = stkr.servers().set_signer(culprit, signer.address(), proof.clone()).unwrap();
        let arguments = format!("server set-signer {culprit} --signer {} --proof {proof}", signer.address());
        self.step(&operator, write.unsigned(), &arguments).await;
        assert_eq!(stkr.servers().get(culprit).await.unwrap().signer, signer.address());
        self.signers.insert(culprit, signer);
        let names: Vec<String> =
            faults.history(culprit).await.unwrap().iter().map(|entry| entry.incident.to_string()).collect();
        assert_eq!(names.len(), 8 + 3, "{names:?}");
        assert_eq!(names[0], "locked out", "the lock-out comes with the first proof: {names:?}");
        assert!(provider.address() != stranger.address());
    }

    async fn free_seats(&mut self, key: u64) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let write = stkr.keys().free_seats(key).await.unwrap();
        self.step(&chain.account().await, write.unsigned(), &format!("key free-seats {key}")).await;
        assert_eq!(stkr.keys().get(key).await.unwrap().commitment, B256::ZERO);
    }

    async fn foreign_deposit(&mut self, provider: &PrivateKeySigner) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let (pool, staker) = (self.open(provider).await, chain.account().await);
        self.stake(pool, &staker, amount::POOL_SIZE).await;
        let key = self.request_key(pool).await;
        self.draw(key).await;
        let dealer = self.finalise(key).await;
        self.order_deposit(pool).await;
        let epoch = self.reshares(key, &dealer).await;
        let credentials = B256::with_last_byte(7);
        let signature = dealer.group_signature(&self.signing_root(&dealer, credentials).await.0);
        let write = stkr.pools().prove_foreign_deposit(pool, credentials, 1_000_000_000, &signature).await.unwrap();
        let hex = Bytes::copy_from_slice(&signature.to_compressed());
        let arguments = format!(
            "pool prove-foreign-deposit {pool} --credentials {credentials} --amount-gwei 1000000000 --signature {hex}"
        );
        self.step(&chain.account().await, write.unsigned(), &arguments).await;
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Cancelled);
        assert_eq!(stkr.keys().get(key).await.unwrap().state, KeyState::Burned);

        self.step(&staker, stkr.pools().refund(pool).unsigned(), &format!("pool refund {pool}")).await;
        assert_eq!(stkr.positions().balance(staker.address(), pool).await.unwrap(), U256::ZERO);
        let write = stkr.pools().withdraw_insurance(pool);
        self.step(provider, write.unsigned(), &format!("pool withdraw-insurance {pool}")).await;
        assert_eq!(stkr.pools().get(pool).await.unwrap().insurance, U256::ZERO);
        self.cancelled_reshare(key).await;
        chain.pass(36 * DAY).await;
        self.free_seats(key).await;
        self.past_seats(key, epoch).await;
    }

    async fn ways_out(&mut self, provider: &PrivateKeySigner) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        for drawn in [false, true] {
            let (pool, staker) = (self.open(provider).await, chain.account().await);
            self.stake(pool, &staker, amount::POOL_SIZE).await;
            let key = self.request_key(pool).await;
            if drawn {
                self.draw(key).await;
                self.acknowledgements(key).await;
            }
            chain.pass(7 * DAY).await;
            let write = stkr.pools().cancel(pool);
            self.step(&chain.account().await, write.unsigned(), &format!("pool cancel {pool}")).await;
            assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Cancelled);
            self.free_seats(key).await;
        }
        let seats: u16 = stkr.servers().list().await.unwrap().iter().map(|server| server.seats).sum();
        assert_eq!(seats, 4, "only those of the live key are left");
    }

    /// Pools with 0x00 credentials: one whose credentials are changed, and one whose committee never signs that.
    async fn withdrawal_keys(&mut self, provider: &PrivateKeySigner) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        for _ in 0..2 {
            self.offline_server().await;
        }
        let keys = stkr.withdrawal_keys();
        let given_up = self.request_withdrawal(provider).await;
        self.step(provider, keys.give_up(given_up).unsigned(), &format!("key give-up {given_up}")).await;
        let write = keys.withdraw_bond(given_up);
        self.step(provider, write.unsigned(), &format!("key withdraw-bond {given_up}")).await;
        assert!(!keys.get(given_up).await.unwrap().bonded);

        let (pool, key, withdrawal) = self.bls_pool(provider).await;
        let owed = stkr.pools().top_up(pool).await.unwrap().dry_run(provider.address()).await.unwrap_err();
        assert!(matches!(owed, StkrError::Contract(ContractError::TooEarly(_))), "{owed}");
        chain.pass(DAY).await;
        let owed = stkr.pools().top_up(pool).await.unwrap().dry_run(provider.address()).await.unwrap_err();
        assert!(owed.to_string().contains("wait for a change of its credentials"), "{owed}");
        let index = 1_234_567;
        let write = keys.order_change(pool, index).await.unwrap();
        self.step(provider, write.unsigned(), &format!("pool order-change {pool} --validator-index {index}")).await;
        let changes = keys.changes(pool).await.unwrap();
        let change = &changes[0];
        assert_eq!((changes.len(), change.validator_index, &change.signature), (1, index, &None));
        assert_eq!(change.to_execution_address, chain.deployment.vault_of(pool));
        assert!(stkr.keys().is_ordered(key, change.signing_root).await.unwrap());
        let signature = withdrawal.group_signature(&change.signing_root.0);
        let write = keys.show_change(pool, index, &signature).await.unwrap();
        let hex = Bytes::copy_from_slice(&signature.to_compressed());
        let arguments = format!("pool show-change {pool} --validator-index {index} --signature {hex}");
        self.step(&chain.account().await, write.unsigned(), &arguments).await;
        assert_eq!(keys.changes(pool).await.unwrap()[0].signature, Some(hex));
        stkr.pools().top_up(pool).await.unwrap().send_with(&wallet(provider)).await.unwrap();
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Active);

        let (pool, ..) = self.bls_pool(provider).await;
        chain.pass(91 * DAY).await;
        let write = stkr.pools().cancel_unchanged(pool);
        self.step(&chain.account().await, write.unsigned(), &format!("pool cancel-unchanged {pool}")).await;
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Cancelled);
    }

    pub(super) async fn offline_server(&mut self) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let (signer, operator) = (PrivateKeySigner::random(), chain.account().await);
        let mut with = chain.registration_of(&signer, operator.address(), amount::ether(10));
        (with.kind, with.endpoint) = (ServerKind::Offline, "offline".to_owned());
        let id = stkr.servers().register(with).unwrap().send_with(&wallet(&operator)).await.unwrap().value;
        stkr.servers().approve(id).send_with(&wallet(&chain.governor)).await.unwrap();
        self.signers.insert(id, signer);
        self.operators.insert(id, operator);
    }

    async fn request_withdrawal(&mut self, provider: &PrivateKeySigner) -> u64 {
        let stkr = self.chain.stkr().await;
        let write = stkr.withdrawal_keys().request(3, 4).unwrap();
        self.step(provider, write.unsigned(), "key request-withdrawal --threshold 3 --members 4").await;
        let id = u64::try_from(stkr.keys().list().await.unwrap().len()).unwrap();
        assert_eq!(stkr.withdrawal_keys().get(id).await.unwrap().provider, provider.address());
        id
    }

    /// A Predeposited pool with 0x00 credentials, its withdrawal key, and who dealt that.
    pub(super) async fn bls_pool(&mut self, provider: &PrivateKeySigner) -> (u64, u64, TrustedDealer) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let withdrawal = self.request_withdrawal(provider).await;
        self.draw(withdrawal).await;
        let owner = self.finalise(withdrawal).await;
        let write = stkr.pools().open_with_withdrawal_key(3, 4, withdrawal).await.unwrap();
        let arguments = format!("pool open --threshold 3 --members 4 --withdrawal-key {withdrawal}");
        self.step(provider, write.unsigned(), &arguments).await;
        let pool = u64::try_from(stkr.pools().list().await.unwrap().len()).unwrap();
        assert!(stkr.pools().get(pool).await.unwrap().bls_credentials);
        assert_eq!(stkr.withdrawal_keys().of_pool(pool).await.unwrap(), Some(withdrawal));
        let credentials = stkr.withdrawal_keys().credentials(pool).await.unwrap().unwrap();
        assert_eq!(credentials[0], 0);

        self.stake(pool, &chain.account().await, amount::POOL_SIZE).await;
        let key = self.request_key(pool).await;
        self.draw(key).await;
        let dealer = self.finalise(key).await;
        self.order_deposit(pool).await;
        let signature = dealer.group_signature(&self.signing_root(&dealer, credentials).await.0);
        let write = stkr.pools().predeposit(pool, &signature).await.unwrap();
        write.send_with(&wallet(provider)).await.unwrap();
        assert_eq!(stkr.pools().state(pool).await.unwrap(), PoolState::Predeposited);
        (pool, withdrawal, owner)
    }

    async fn governance(&mut self) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let governor = chain.governor.clone();
        let (min, seat) = (amount::ether(5), amount::parse("0.3").unwrap());
        let write = stkr.servers().set_bond_parameters(min, seat).unwrap();
        self.step(&governor, write.unsigned(), "server set-bond-parameters --min-bond 5eth --seat-bond 0.3eth").await;
        assert_eq!(stkr.servers().min_bond().await.unwrap(), min);
        let consumer = Address::repeat_byte(0xc0);
        let write = stkr.keys().add_consumer(consumer);
        self.step(&governor, write.unsigned(), &format!("key add-consumer {consumer}")).await;
        let registry = KeyRegistry::new(chain.deployment.key_registry, &chain.provider);
        assert!(registry.isConsumer(consumer).call().await.unwrap());
        let write = stkr.keys().set_ceremony_window(7200).unwrap();
        self.step(&governor, write.unsigned(), "key set-ceremony-window 7200").await;
        assert_eq!(registry.ceremonyWindow().call().await.unwrap().to::<u64>(), 7200);
    }

    async fn leaving(&mut self) {
        let (chain, stkr) = (self.chain, self.chain.stkr().await);
        let signer = PrivateKeySigner::random();
        let operator = chain.account().await;
        let with = chain.registration_of(&signer, operator.address(), amount::ether(5));
        let id = stkr.servers().register(with).unwrap().send_with(&wallet(&operator)).await.unwrap().value;
        let write = stkr.servers().announce_leave(id);
        self.step(&operator, write.unsigned(), &format!("server leave {id}")).await;
        assert_eq!(stkr.servers().get(id).await.unwrap().status, ServerStatus::Leaving);
        chain.pass(36 * DAY).await;
        let write = stkr.servers().withdraw_bond(id);
        self.step(&operator, write.unsigned(), &format!("server withdraw-bond {id}")).await;
        let left = stkr.servers().get(id).await.unwrap();
        assert_eq!((left.status, left.bond), (ServerStatus::Left, U256::ZERO));
    }
}

/// Servers of a new chain, registered and approved, and a key that its owner dealt to them: ids, signers and the key's id.
pub(crate) async fn dealt_committee(chain: &Chain, dealer: &TrustedDealer) -> (Vec<u32>, Vec<PrivateKeySigner>, u64) {
    let (folder, stkr, owner) = (tempfile::tempdir().unwrap(), chain.stkr().await, chain.account().await);
    let (mut ids, mut signers) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (signer, operator) = (PrivateKeySigner::random(), chain.account().await);
        let with = chain.registration_of(&signer, operator.address(), amount::ether(10));
        let id = stkr.servers().register(with).unwrap().send_with(&wallet(&operator)).await.unwrap().value;
        stkr.servers().approve(id).send_with(&wallet(&chain.governor)).await.unwrap();
        ids.push(id);
        signers.push(signer);
    }
    let members: Vec<&PrivateKeySigner> = signers.iter().collect();
    let (dealt, _) = dealt_import(chain, folder.path(), dealer, &owner, (&ids, &members));
    let id = stkr.keys().import_dealt(dealt).unwrap().send_with(&wallet(&owner)).await.unwrap().value;
    (ids, signers, id)
}

/// What `owner` imports a key with that `dealer` dealt to these servers, and the arguments of `stkr` for it.
fn dealt_import(
    chain: &Chain,
    folder: &Path,
    dealer: &TrustedDealer,
    owner: &PrivateKeySigner,
    (committee, signers): (&[u32], &[&PrivateKeySigner]),
) -> (KeyRegistry::DealtImport, String) {
    let (share_keys, group_key) = (dealer.keys.share_keys(), dealer.keys.group_key());
    let points: Vec<u8> = share_keys.iter().chain([&group_key]).flat_map(|key| key.to_eip2537()).collect();
    let addresses: Vec<Address> = signers.iter().map(|signer| signer.address()).collect();
    let domain = eip712_domain! {
        name: "Stkr",
        version: "1",
        chain_id: chain.deployment.chain_id,
        verifying_contract: chain.deployment.key_registry,
    };
    let history = B256::repeat_byte(0x41);
    let digest = DealtAcknowledgement {
        owner: owner.address(),
        threshold: 3,
        pointsHash: keccak256(&points),
        committeeHash: keccak256((committee.to_vec(), addresses.clone()).abi_encode_params()),
        historyHash: history,
    }
    .eip712_signing_hash(&domain);
    let signatures: Vec<Bytes> = signers
        .iter()
        .map(|signer| Bytes::copy_from_slice(&signer.sign_hash_sync(&digest).unwrap().as_bytes()))
        .collect();
    let possession = dealer.group_signature(&digest);
    let lower = |address: Address| format!("0x{}", alloy::hex::encode(address));
    let compressed = |key: &stkr_sdk::PublicKey| Bytes::copy_from_slice(&key.to_compressed());
    let members: Vec<_> = (committee.iter().zip(&addresses).zip(share_keys))
        .map(|((id, signer), key)| {
            json!({"serverId": id.to_string(), "signer": lower(*signer), "shareKey": compressed(key)})
        })
        .collect();
    let key = json!({"chainId": chain.deployment.chain_id.to_string(),
        "keyRegistry": lower(chain.deployment.key_registry), "owner": lower(owner.address()), "threshold": "3",
        "members": members, "groupKey": compressed(&group_key), "historyHash": history,
        "possession": Bytes::copy_from_slice(&possession.to_compressed())});
    let duty_key = Address::repeat_byte(0xd1);
    let file = folder.join("dealt-key.json");
    std::fs::write(&file, key.to_string()).unwrap();
    let mut arguments = format!("key import-dealt --key {} --duty-key {duty_key}", file.display());
    for (id, signature) in (1..).zip(&signatures) {
        let file = folder.join(format!("dealt-{id}.json"));
        std::fs::write(&file, json!({"index": id.to_string(), "signature": signature}).to_string()).unwrap();
        arguments += &format!(" --acknowledgement {}", file.display());
    }
    let dealt = stkr_sdk::bindings::KeyRegistry::DealtImport {
        threshold: 3,
        committee: committee.to_vec(),
        points: points.into(),
        dutyKey: duty_key,
        historyHash: history,
        acknowledgements: signatures.concat().into(),
        possession: possession.to_eip2537().to_vec().into(),
    };
    (dealt, arguments)
}
