//! Threshold servers: registration, bond, approval, leaving.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U96, ruint::UintTryFrom as _},
    providers::Provider,
    rpc::types::{Filter, Log, TransactionReceipt},
    sol_types::SolEvent,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use stkr_chain::{
    bindings::ServerRegistry,
    types::{ServerKind, ServerStatus},
};
use url::Url;

use crate::{
    amount::with_unit,
    client::Stkr,
    error::{StkrError, call},
    scan,
    write::{Write, check_positive, nothing},
};

/// Requests in flight at once when many things are read.
pub(crate) const PARALLEL: usize = 8;
/// Longest endpoint the registry takes, in bytes.
const MAX_ENDPOINT: usize = 253;

/// A server as the chain knows it, with the endpoint from its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerInfo {
    /// Id, from 1.
    pub id: u32,
    /// Account that runs it and gets the bond back.
    pub operator: Address,
    /// secp256k1 address that signs its protocol messages.
    pub signer: Address,
    /// Where it stands.
    pub status: ServerStatus,
    /// Online or offline.
    pub kind: ServerKind,
    /// Seats in live committees.
    pub seats: u16,
    /// Bond in wei (decimal string in JSON).
    #[serde(serialize_with = "crate::serde_wei")]
    pub bond: U256,
    /// Unix time from which the bond can be withdrawn; 0 before leaving.
    pub unbonding_ends: u64,
    /// A fault of it was proven, and governance has not reinstated it since: no new seat until then.
    pub locked_out: bool,
    /// How often governance reinstated it.
    pub terms: u8,
    /// SHA-256 of its TLS certificate.
    pub tls_fingerprint: B256,
    /// `https://host:port`, from its latest event.
    pub endpoint: String,
}

/// What a server registers with; `stkr-server init` prints these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// secp256k1 address of the server's signer key.
    pub signer: Address,
    /// SHA-256 of the DER certificate; zero only for offline servers.
    pub tls_fingerprint: B256,
    /// Online or offline.
    pub kind: ServerKind,
    /// Where the server listens.
    pub endpoint: String,
    /// 65-byte signature by the signer key over `SignerProof(operator, signer)`.
    pub signer_proof: Bytes,
    /// Bond in wei.
    pub bond: U256,
}

/// Reads and writes of the server registry.
#[derive(Clone, Copy, Debug)]
pub struct Servers<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Servers<'a, P> {
    /// All servers, by id.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn list(&self) -> Result<Vec<ServerInfo>, StkrError> {
        let registry = self.0.server_registry();
        let count = registry.serverCount().call().await.map_err(call("counting the servers"))?;
        let mut endpoints = self.endpoints(None).await?;
        let servers: Vec<_> = stream::iter(1..=count).map(|id| self.read(id)).buffered(PARALLEL).try_collect().await?;
        Ok(servers
            .into_iter()
            .map(|server| {
                let endpoint = endpoints.remove(&server.id).unwrap_or_default();
                ServerInfo { endpoint, ..server }
            })
            .collect())
    }

    /// The server with this id.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] or [`StkrError::Rpc`].
    pub async fn get(&self, id: u32) -> Result<ServerInfo, StkrError> {
        let server = self.read(id).await?;
        let endpoint = self.endpoints(Some(id)).await?.remove(&id).unwrap_or_default();
        Ok(ServerInfo { endpoint, ..server })
    }

    /// Id of the server that uses `signer`.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn id_of_signer(&self, signer: Address) -> Result<Option<u32>, StkrError> {
        let id = self.0.server_registry().serverOfSigner(signer).call().await.map_err(call("looking up a signer"))?;
        Ok((id != 0).then_some(id))
    }

    /// Smallest bond a server may register with, in wei.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn min_bond(&self) -> Result<U256, StkrError> {
        let bond = self.0.server_registry().minBond().call().await.map_err(call("reading the smallest bond"))?;
        Ok(U256::from(bond))
    }

    /// Registers a server of the sending account; makes its id.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for an endpoint, fingerprint, proof or bond that the registry cannot take.
    pub fn register(&self, with: Registration) -> Result<Write<'a, P, u32>, StkrError> {
        check_endpoint(&with.endpoint, with.kind == ServerKind::Online)?;
        check_fingerprint(with.kind, with.tls_fingerprint)?;
        check_proof(&with.signer_proof, "signer proof")?;
        check_positive(with.bond, "a bond")?;
        let call = ServerRegistry::registerCall {
            signer: with.signer,
            tlsFingerprint: with.tls_fingerprint,
            kind: with.kind.into(),
            endpoint: with.endpoint,
            signerProof: with.signer_proof,
        };
        Ok(self.write("registering the server", &call, registered_id).value(with.bond))
    }

    /// Adds `wei` to the bond of a server; anyone may.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for nothing.
    pub fn add_bond(&self, id: u32, wei: U256) -> Result<Write<'a, P>, StkrError> {
        check_positive(wei, "a bond")?;
        Ok(self.write("adding to the bond", &ServerRegistry::addBondCall { id }, nothing).value(wei))
    }

    /// Changes endpoint and certificate of a server of the sending account.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for an endpoint the registry cannot take.
    pub fn set_endpoint(&self, id: u32, tls_fingerprint: B256, endpoint: &str) -> Result<Write<'a, P>, StkrError> {
        // Offline servers have no certificate.
        check_endpoint(endpoint, !tls_fingerprint.is_zero())?;
        let call = ServerRegistry::setEndpointCall { id, tlsFingerprint: tls_fingerprint, endpoint: endpoint.into() };
        Ok(self.write("changing the endpoint", &call, nothing))
    }

    /// Names another signer key for a server of the sending account, with the 65-byte signature by the new key over
    /// `SignerProof(operator, signer)`. Committees that exist keep the old key, and what it signed stays punishable.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a proof of another length.
    pub fn set_signer(&self, id: u32, signer: Address, signer_proof: Bytes) -> Result<Write<'a, P>, StkrError> {
        check_proof(&signer_proof, "signer proof")?;
        let call = ServerRegistry::setSignerCall { id, signer, signerProof: signer_proof };
        Ok(self.write("changing the signer", &call, nothing))
    }

    /// Governance: lets a server that was locked out take part again, with what the investigation found on record. Its bond
    /// must cover the smallest bond and each seat again.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] without a reason.
    pub fn reinstate(&self, id: u32, reason: &str) -> Result<Write<'a, P>, StkrError> {
        if reason.trim().is_empty() {
            return Err(StkrError::invalid(
                "a reinstatement needs a reason",
                "say in a few words what the investigation found, it is recorded",
            ));
        }
        let call = ServerRegistry::reinstateCall { id, reason: reason.into() };
        Ok(self.write("reinstating the server", &call, nothing))
    }

    /// Wei of bounties that `reporter` can withdraw for faults of servers.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn bounty_of(&self, reporter: Address) -> Result<U256, StkrError> {
        self.0.server_registry().bountyOf(reporter).call().await.map_err(call("reading a bounty"))
    }

    /// Pays the sending account its bounties for faults of servers; makes their sum in wei.
    pub fn withdraw_bounty(&self) -> Write<'a, P, U256> {
        self.write("withdrawing the bounty", &ServerRegistry::withdrawBountyCall {}, paid_bounty)
    }

    /// Governance: lets a Registered or Suspended server be drawn.
    pub fn approve(&self, id: u32) -> Write<'a, P> {
        self.write("approving the server", &ServerRegistry::approveCall { id }, nothing)
    }

    /// Governance: takes a server out of future draws, with a reason on record.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] without a reason.
    pub fn suspend(&self, id: u32, reason: &str) -> Result<Write<'a, P>, StkrError> {
        if reason.trim().is_empty() {
            return Err(StkrError::invalid("a suspension needs a reason", "say in a few words why, it is recorded"));
        }
        let call = ServerRegistry::suspendCall { id, reason: reason.into() };
        Ok(self.write("suspending the server", &call, nothing))
    }

    /// Governance: sets the smallest bond of a new server and the part of a bond that each seat reserves, in wei, each
    /// from 0.1 to 100 ETH; seats that are held keep what they reserve.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for more wei than a bond can have.
    pub fn set_bond_parameters(&self, min_bond: U256, seat_bond: U256) -> Result<Write<'a, P>, StkrError> {
        let narrow = |wei: U256| {
            let much = || StkrError::invalid(format!("{} is no bond", with_unit(wei)), "give 0.1 to 100 ETH");
            U96::uint_try_from(wei).map_err(|_| much())
        };
        let call = ServerRegistry::setBondParametersCall { minBond_: narrow(min_bond)?, seatBond_: narrow(seat_bond)? };
        Ok(self.write("setting the bonds", &call, nothing))
    }

    /// The operator's server leaves: no new seats, and the unbonding delay starts.
    pub fn announce_leave(&self, id: u32) -> Write<'a, P> {
        self.write("announcing the leave", &ServerRegistry::announceLeaveCall { id }, nothing)
    }

    /// Pays the bond of a Leaving server out, once no seat is held and the delay is over.
    pub fn withdraw_bond(&self, id: u32) -> Write<'a, P> {
        self.write("withdrawing the bond", &ServerRegistry::withdrawBondCall { id }, nothing)
    }

    fn write<T>(
        &self,
        action: &'static str,
        call: &impl alloy::sol_types::SolCall,
        reader: fn(&TransactionReceipt) -> Option<T>,
    ) -> Write<'a, P, T> {
        self.0.write(self.0.deployment().server_registry, action, call, reader)
    }

    pub(crate) async fn read(&self, id: u32) -> Result<ServerInfo, StkrError> {
        let server = self.0.server_registry().server(id).call().await.map_err(call("reading a server"))?;
        let server = stkr_chain::ServerInfo::from_contract(id, &server)
            .map_err(unknown_enum)?
            .ok_or_else(|| StkrError::NotFound { what: format!("server {id}") })?;
        Ok(ServerInfo {
            id: server.id,
            operator: server.operator,
            signer: server.signer,
            status: server.status,
            kind: server.kind,
            seats: server.seats,
            bond: server.bond,
            unbonding_ends: server.unbonding_ends,
            locked_out: server.locked_out,
            terms: server.terms,
            tls_fingerprint: server.tls_fingerprint,
            endpoint: String::new(),
        })
    }

    /// Latest endpoint by id, of one server or of all: endpoints live in events only.
    async fn endpoints(&self, id: Option<u32>) -> Result<BTreeMap<u32, String>, StkrError> {
        let deployment = self.0.deployment();
        let mut filter = Filter::new().address(deployment.server_registry).event_signature(vec![
            ServerRegistry::ServerRegistered::SIGNATURE_HASH,
            ServerRegistry::ServerEndpointChanged::SIGNATURE_HASH,
        ]);
        if let Some(id) = id {
            filter = filter.topic1(U256::from(id));
        }
        let head = self.0.head_number().await?;
        let logs = scan::logs(self.0.provider(), &filter, deployment.deployed_block, head).await?;
        Ok(logs.iter().filter_map(endpoint_in).collect())
    }
}

fn endpoint_in(log: &Log) -> Option<(u32, String)> {
    if let Ok(event) = log.log_decode::<ServerRegistry::ServerRegistered>() {
        return Some((event.inner.data.id, event.inner.data.endpoint));
    }
    let event = log.log_decode::<ServerRegistry::ServerEndpointChanged>().ok()?;
    Some((event.inner.data.id, event.inner.data.endpoint))
}

fn registered_id(receipt: &TransactionReceipt) -> Option<u32> {
    receipt.decoded_log::<ServerRegistry::ServerRegistered>().map(|event| event.data.id)
}

fn paid_bounty(receipt: &TransactionReceipt) -> Option<U256> {
    receipt.decoded_log::<ServerRegistry::BountyPaid>().map(|event| event.data.amount)
}

/// The registry takes any text. What no relayer could call (`stkr_node::tls::endpoint_url`) is refused here.
fn check_endpoint(endpoint: &str, online: bool) -> Result<(), StkrError> {
    let refused = |what: String| Err(StkrError::invalid(what, "give it as https://host:port"));
    if endpoint.is_empty() || endpoint.len() > MAX_ENDPOINT {
        return refused(format!("the endpoint has {} bytes; it must have 1 to {MAX_ENDPOINT}", endpoint.len()));
    }
    if endpoint.chars().any(char::is_control) {
        return refused("the endpoint has control characters".to_owned());
    }
    if online && !is_callable(endpoint) {
        return refused(format!("nobody can call the endpoint {endpoint} over TLS"));
    }
    Ok(())
}

/// `https://host` or `https://host:port`, nothing before and nothing behind.
fn is_callable(endpoint: &str) -> bool {
    let Ok(url) = Url::parse(endpoint) else { return false };
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    url.scheme() == "https" && url.has_host() && bare && url.username().is_empty() && url.password().is_none()
}

fn check_fingerprint(kind: ServerKind, fingerprint: B256) -> Result<(), StkrError> {
    if kind == ServerKind::Online && fingerprint.is_zero() {
        return Err(StkrError::invalid(
            "an online server needs the fingerprint of its TLS certificate",
            "stkr-server init prints it",
        ));
    }
    Ok(())
}

pub(crate) fn check_proof(proof: &Bytes, name: &str) -> Result<(), StkrError> {
    if proof.len() != 65 {
        return Err(StkrError::invalid(
            format!("the {name} has {} bytes; a signature has 65", proof.len()),
            "give r, s and v as 0x and 130 hex digits",
        ));
    }
    Ok(())
}

/// A value beyond the enum the SDK was built with: another version is deployed.
pub(crate) fn unknown_enum(error: impl core::fmt::Display) -> StkrError {
    StkrError::Unsafe { reason: format!("the deployed contracts are not those this program was built for: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_nobody_can_call_is_refused_before_it_costs_anything() {
        for good in ["https://127.0.0.1:9000", "https://server.example", "https://[::1]:9000/"] {
            check_endpoint(good, true).unwrap();
        }
        for bad in ["http://x:1", "foo", "https://a:1/x", "https://u@a:1", "https://<script>:1", "https://a:1?x", ""] {
            assert!(check_endpoint(bad, true).is_err(), "{bad}");
        }
        for online in [true, false] {
            assert!(check_endpoint("https://x:1\u{1b}[31m\nline", online).is_err());
        }
        check_endpoint("the safe of partner 7", false).unwrap();
    }
}
