//! Single steps that a relayer makes on its own, made by hand: honestly, or as an attacker would.

use crate::Network;
use alloy::network::EthereumWallet;
use alloy::primitives::{B256, U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use eyre::{Result, ensure, eyre};
use stkr_chain::bindings::KeyRegistry;
use stkr_core::{ShareIndex, Threshold};
use stkr_node::client::{Patience, Peer, ServerClient};
use stkr_node::config;
use stkr_node::tls::{Fingerprint, Identity};
use stkr_protocol::api::AdvanceRequest;
use stkr_protocol::ceremony::{Board, Context, MemberId, Transcript};
use stkr_protocol::messages::{AcknowledgementBody, Body, Round, SignedMessage};
use stkr_protocol::{ProtocolDomain, SignerKey};
use stkr_server::config::ServerConfig;

impl Network {
    /// EIP-712 domain of all messages of this network.
    pub fn domain(&self) -> ProtocolDomain {
        ProtocolDomain { chain_id: self.deployment.chain_id, key_registry: self.deployment.key_registry }
    }

    /// Configuration of a server, as the server itself reads it.
    pub fn server_config(&self, position: usize) -> Result<ServerConfig> {
        let server = self.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
        Ok(config::load(&server.config)?)
    }

    /// Fingerprint of the certificate that a server really shows.
    pub fn fingerprint(&self, position: usize) -> Result<Fingerprint> {
        let files = self.server_config(position)?.files;
        Ok(Identity::load(&files.tls_certificate, &files.tls_key)?.fingerprint())
    }

    /// Signer key of a server, from its folder: what its operator has, or a thief.
    pub fn signer_key(&self, position: usize) -> Result<SignerKey> {
        let files = self.server_config(position)?.files;
        Ok(SignerKey::from_bytes(&*stkr_node::secrets::read_hex32(&files.signer_key)?)?)
    }

    /// Client of a server, pinned to the certificate that it really shows.
    pub fn client(&self, position: usize, identity: &Identity) -> Result<ServerClient> {
        let server = self.servers.get(position).ok_or_else(|| eyre!("no server {position}"))?;
        let fingerprint = self.fingerprint(position)?;
        let peer = Peer { server_id: server.id, endpoint: server.endpoint.clone(), fingerprint };
        Ok(ServerClient::new(identity, peer, Patience::default())?)
    }

    /// Asks for the key of a Full pool and waits until its seed exists; returns the key's id.
    pub async fn request_key(&self, pool: u64, anyone: &EthereumWallet) -> Result<u64> {
        let stkr = self.stkr().await?;
        let key = stkr.pools().request_key(pool).send_with(anyone).await?.value;
        let seed_block = stkr.keys().get(key).await?.mark;
        let provider = self.provider()?;
        self.until("the seed block", || async { Ok(provider.get_block_number().await? > seed_block) }).await?;
        Ok(key)
    }

    /// Draws the committee of a key that was asked for; returns its ceremony.
    pub async fn draw(&self, key: u64, (t, n): (u8, u8), anyone: &EthereumWallet) -> Result<Context> {
        let stkr = self.stkr().await?;
        stkr.keys().draw(key).await?.send_with(anyone).await?;
        let drawn = self.event::<KeyRegistry::CommitteeDrawn>(self.deployment.key_registry, key).await?;
        let mut members = Vec::new();
        for id in &drawn.inner.committee {
            members.push(MemberId { server_id: *id, signer: stkr.servers().get(*id).await?.signer });
        }
        Ok(Context::new(self.domain(), key, 0, Threshold::new(t, n)?, members)?)
    }

    /// Signer keys of the members of a ceremony, in index order.
    pub fn signers_of(&self, ceremony: &Context) -> Result<Vec<SignerKey>> {
        ceremony.members().iter().map(|member| self.signer_key(self.position_of(member.server_id)?)).collect()
    }

    /// Carries a ceremony between its servers to the end, as an honest relayer does.
    pub async fn carry(&self, ceremony: &Context) -> Result<Finalisation> {
        let identity = Identity::generate("relayer")?;
        let mut clients = Vec::new();
        for member in ceremony.members() {
            clients.push(self.client(self.position_of(member.server_id)?, &identity)?);
        }
        let mut board = Board::new(ceremony.clone());
        // One pass more than there are rounds: the last messages of one pass are handed over in the next.
        for _ in 0..=Round::ALL.len() {
            for client in &clients {
                let messages = board.messages().cloned().collect();
                let request = AdvanceRequest { key_id: ceremony.key_id(), attempt: ceremony.attempt(), messages };
                for message in client.advance(&request).await?.messages {
                    board.accept(message)?;
                }
            }
        }
        let transcript = Transcript::assemble(&board)?;
        Ok(Finalisation {
            committee: ceremony.committee(),
            points: transcript.points(),
            dealings_digest: transcript.dealings_digest(),
            acknowledgements: transcript.acknowledgements(),
        })
    }

    /// Carries a ceremony until nothing but acknowledgements is missing, as a relayer does that keeps the dealings of others from
    /// one member: that one has revealed its own, and cannot acknowledge.
    pub async fn carry_but_to(&self, ceremony: &Context, kept_from: ShareIndex) -> Result<Board> {
        let identity = Identity::generate("relayer")?;
        let mut board = Board::new(ceremony.clone());
        for _ in 0..=Round::ALL.len() {
            for (index, member) in ceremony.threshold().indices().zip(ceremony.members()) {
                let given = |it: &&SignedMessage| index != kept_from || it.round() != Round::Dealing;
                let messages = board.messages().filter(given).cloned().collect();
                let request = AdvanceRequest { key_id: ceremony.key_id(), attempt: ceremony.attempt(), messages };
                let client = self.client(self.position_of(member.server_id)?, &identity)?;
                for message in client.advance(&request).await?.messages {
                    board.accept(message)?;
                }
            }
        }
        let (dealings, acknowledgements) = (board.missing(Round::Dealing), board.missing(Round::Acknowledgement));
        ensure!(dealings.is_empty() && acknowledgements.contains(&kept_from), "{dealings:?}, {acknowledgements:?}");
        Ok(board)
    }

    /// Sends a finalisation that has to pass.
    pub async fn finalise(&self, key: u64, finalisation: &Finalisation, anyone: &EthereumWallet) -> Result<()> {
        let request = finalisation.transaction(self, key);
        let receipt = self.wallet_provider(anyone)?.send_transaction(request).await?.get_receipt().await?;
        ensure!(receipt.status(), "finalising key {key} failed");
        Ok(())
    }

    /// A provider that signs with `wallet` and asks nobody whether that is wise.
    pub fn wallet_provider(&self, wallet: &EthereumWallet) -> Result<impl Provider + use<>> {
        crate::network::install_tls();
        let provider = alloy::providers::ProviderBuilder::new().wallet(wallet.clone());
        let provider = provider.connect_http(self.anvil.url.parse()?);
        provider.client().set_poll_interval(std::time::Duration::from_millis(100));
        Ok(provider)
    }
}

/// The arguments of `finalise`.
#[derive(Clone, Debug)]
pub struct Finalisation {
    /// Server ids in index order.
    pub committee: Vec<u32>,
    /// n share keys, then the group key, EIP-2537.
    pub points: Vec<u8>,
    /// Hash over the n dealing hashes.
    pub dealings_digest: B256,
    /// n signatures of 65 bytes.
    pub acknowledgements: Vec<u8>,
}

impl Finalisation {
    /// Acknowledged by all members over whatever points somebody made up: what a committee can send of which every member
    /// is hacked, and which the points alone can stop.
    pub fn colluding(ceremony: &Context, points: Vec<u8>, signers: &[SignerKey]) -> Self {
        let dealings_digest = B256::repeat_byte(0xd1);
        let acknowledgements = (ceremony.threshold().indices().zip(signers))
            .flat_map(|(index, signer)| acknowledge(ceremony, index, &points, dealings_digest, signer))
            .collect();
        Self { committee: ceremony.committee(), points, dealings_digest, acknowledgements }
    }

    /// As a transaction that anybody may send. The gas limit is given, so that no estimate refuses it first.
    pub fn transaction(&self, network: &Network, key: u64) -> TransactionRequest {
        let call = KeyRegistry::finaliseCall {
            keyId: U256::from(key),
            committee: self.committee.clone(),
            points: self.points.clone().into(),
            dealingsDigest: self.dealings_digest,
            acknowledgements: self.acknowledgements.clone().into(),
        };
        TransactionRequest::default()
            .to(network.deployment.key_registry)
            .input(call.abi_encode().into())
            .gas_limit(GAS_LIMIT)
    }
}

/// Enough for every transaction of Stkr.
pub const GAS_LIMIT: u64 = 2_000_000;

/// Signature of a member under a transcript with these points.
pub fn acknowledge(
    ceremony: &Context,
    index: ShareIndex,
    points: &[u8],
    dealings_digest: B256,
    signer: &SignerKey,
) -> [u8; 65] {
    let body = Body::Acknowledgement(AcknowledgementBody {
        threshold: ceremony.threshold().t(),
        points_hash: keccak256(points),
        committee_hash: ceremony.committee_hash(),
        dealings_digest,
    });
    let place = (ceremony.key_id(), ceremony.attempt(), index);
    SignedMessage::sign(ceremony.domain(), signer, place, body).signature
}
