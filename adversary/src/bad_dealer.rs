//! A member of key ceremonies that deals badly: one member gets a share that is not its own, or everybody what is no dealing, or it
//! commits to two, or deals well and then says nothing more.
//!
//! Up to the reveal it keeps to the protocol, so that nobody can tell before the dealings are on the table.

use std::collections::{BTreeMap, btree_map::Entry};
use std::path::Path;
use std::sync::Arc;

use alloy::primitives::{B256, keccak256};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use eyre::{Result, eyre};
use stkr_chain::{ChainReader, Deployment, Trust};
use stkr_core::ShareIndex;
use stkr_core::dkg::{self, CeremonyDomain, OneTimeSecret};
use stkr_node::{config, secrets};
use stkr_protocol::SignerKey;
use stkr_protocol::api::{AdvanceRequest, AdvanceResponse};
use stkr_protocol::ceremony::{Board, Context, Phase};
use stkr_protocol::messages::{Body, DealingBody, DealingCommitmentBody, OneTimeKeyBody, Round, SignedMessage};
use stkr_server::chain::ChainView;
use stkr_server::config::ServerConfig;

use crate::front;
use tokio::sync::Mutex;

/// What is wrong with its dealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flaw {
    /// One member's share is not the value of the polynomial that it commits to: only that member can tell.
    WrongShare,
    /// A commitment is missing: anybody can tell.
    Malformed,
    /// It commits to two dealings, both good.
    Two,
    /// Its dealing is good, and it never acknowledges the key: nobody can tell, and nobody gets the key.
    Silent,
}

/// The member in one ceremony.
pub struct BadDealer {
    board: Board,
    me: ShareIndex,
    secret: OneTimeSecret,
    dealing: Option<SignedMessage>,
    /// With [`Flaw::Two`].
    other: Option<SignedMessage>,
    flaw: Flaw,
}

impl std::fmt::Debug for BadDealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BadDealer").field("me", &self.me).field("flaw", &self.flaw).finish_non_exhaustive()
    }
}

impl BadDealer {
    /// Takes the seat of the member whose signer key this is.
    ///
    /// # Errors
    /// If it has no seat.
    pub fn new(context: Context, key: &SignerKey, flaw: Flaw) -> Result<Self> {
        let me = context.index_of(key.address()).ok_or_else(|| eyre!("this server is not in that committee"))?;
        Ok(Self { board: Board::new(context), me, secret: OneTimeSecret::random()?, dealing: None, other: None, flaw })
    }

    /// Whom it cheats with [`Flaw::WrongShare`]: the first member that it is not itself.
    #[must_use]
    pub const fn victim(me: ShareIndex) -> u8 {
        if me.get() == 1 { 2 } else { 1 }
    }

    /// Takes what a relayer carries and answers as a server does.
    ///
    /// # Errors
    /// If no dealing can be made.
    pub fn advance(&mut self, key: &SignerKey, messages: Vec<SignedMessage>) -> Result<AdvanceResponse> {
        for message in messages {
            let _ = self.board.accept(message);
        }
        let mut said =
            vec![self.say(key, Body::OneTimeKey(OneTimeKeyBody { public_key: self.secret.public_key().to_vec() }))];
        if self.dealing.is_none() && self.is_complete(Round::OneTimeKey) {
            self.dealing = Some(self.deal(key)?);
            self.other = (self.flaw == Flaw::Two).then(|| self.deal(key)).transpose()?;
        }
        if let Some(other) = &self.other {
            let dealing_hash = other.digest(self.board.context().domain());
            said.push(self.say(key, Body::DealingCommitment(DealingCommitmentBody { dealing_hash })));
        }
        if let Some(dealing) = self.dealing.clone() {
            let dealing_hash = dealing.digest(self.board.context().domain());
            said.push(self.say(key, Body::DealingCommitment(DealingCommitmentBody { dealing_hash })));
            if let Some(set) = self.board.commitment_set() {
                said.push(self.say(key, Body::CommitmentSet(set)));
                if self.is_complete(Round::CommitmentSet) {
                    said.push(dealing);
                }
            }
        }
        Ok(AdvanceResponse {
            messages: said,
            phase: Phase::Dealing,
            waiting_for: Vec::new(),
            failure: None,
            complaint: None,
        })
    }

    fn say(&mut self, key: &SignerKey, body: Body) -> SignedMessage {
        let context = self.board.context();
        let message = SignedMessage::sign(context.domain(), key, (context.key_id(), context.attempt(), self.me), body);
        let _ = self.board.accept(message.clone());
        message
    }

    fn is_complete(&self, round: Round) -> bool {
        self.board.missing(round).is_empty()
    }

    fn deal(&self, key: &SignerKey) -> Result<SignedMessage> {
        let context = self.board.context();
        let mut keys: Vec<[u8; 33]> = Vec::new();
        for index in context.threshold().indices() {
            match self.board.message(Round::OneTimeKey, index).map(|message| &message.body) {
                Some(Body::OneTimeKey(body)) => keys.push(body.public_key.as_slice().try_into()?),
                _ => return Err(eyre!("member {index} has no one-time key")),
            }
        }
        let domain = CeremonyDomain {
            chain_id: context.domain().chain_id,
            registry: context.domain().key_registry,
            key_id: context.key_id(),
            attempt: context.attempt(),
        };
        let dealing = dkg::deal(&domain, context.threshold(), self.me, &self.secret, &keys)?;
        let mut body = DealingBody {
            one_time_keys_hash: keccak256(keys.as_flattened()),
            one_time_key: dealing.one_time_key.to_vec(),
            commitments: dealing.commitments_to_wire(),
            proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
            shares: dealing.shares_to_wire(),
        };
        match self.flaw {
            Flaw::WrongShare => {
                let last = usize::from(Self::victim(self.me)) * 32 - 1;
                *body.shares.get_mut(last).ok_or_else(|| eyre!("nobody to cheat"))? ^= 1;
            }
            Flaw::Malformed => body.commitments.truncate(body.commitments.len() - 128),
            Flaw::Two | Flaw::Silent => {}
        }
        let sender = (context.key_id(), context.attempt(), self.me);
        Ok(SignedMessage::sign(context.domain(), key, sender, Body::Dealing(body)))
    }
}

struct Server {
    chain: ChainView,
    key: SignerKey,
    flaw: Flaw,
    /// By key, attempt and committee.
    ceremonies: Mutex<BTreeMap<(u64, u16, B256), BadDealer>>,
}

impl Server {
    async fn advance(&self, request: AdvanceRequest) -> Result<AdvanceResponse> {
        let AdvanceRequest { key_id, attempt, messages } = request;
        let drawn = self.chain.ceremony(key_id, attempt, false).await?;
        let mut ceremonies = self.ceremonies.lock().await;
        let dealer = match ceremonies.entry((key_id, attempt, drawn.committee)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(BadDealer::new(drawn.context, &self.key, self.flaw)?),
        };
        dealer.advance(&self.key, messages)
    }
}

/// Serves in the place of the honest server whose configuration this is: same certificate, signer key, port and RPC endpoints.
/// Ends with the process.
///
/// # Errors
/// When the configuration or its files cannot be used, or the port is taken.
pub async fn serve(config: &Path, flaw: Flaw) -> Result<()> {
    let config: ServerConfig = config::load(config)?;
    let deployment = Deployment::load(&config.chain.deployment)?;
    let reader = ChainReader::connect(deployment, &config.chain.endpoints()?, Trust::OneEndpoint).await?;
    let server = Arc::new(Server {
        chain: ChainView::new(reader),
        key: SignerKey::from_bytes(&*secrets::read_hex32(&config.files.signer_key)?)?,
        flaw,
        ceremonies: Mutex::default(),
    });
    let advance = |State(server): State<Arc<Server>>, Json(request): Json<AdvanceRequest>| async move {
        server.advance(request).await.map(Json).map_err(|error| (StatusCode::CONFLICT, error.to_string()))
    };
    let router = Router::new().route("/v1/ceremonies/advance", post(advance)).with_state(server);
    front::serve(&config, router).await
}
