//! What one server signs, whoever asks: the deposit that the finalized chain orders for a live key of its own, once, and
//! the same answer for ever. Everything else is refused with the kind of refusal and the reason that belong to it.

use alloy::eips::BlockNumberOrTag;
use alloy::network::EthereumWallet;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use eyre::{Result, bail, eyre};
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_core::testing::TrustedDealer;
use stkr_duties::{DepositMessage, eth1_withdrawal_credentials};
use stkr_e2e::anvil::advance_time;
use stkr_e2e::by_hand::Finalisation;
use stkr_e2e::{Network, Options};
use stkr_node::client::ServerClient;
use stkr_node::tls::Identity;
use stkr_protocol::api::SignBatch;
use stkr_protocol::ceremony::{Context, points};
use stkr_protocol::sign::{DepositRequest, Refusal, RefusalKind, SignResponse, SignedPartial};

const THRESHOLD: (u8, u8) = (3, 4);
/// Seconds after which a pool that has a key and no deposit order can be cancelled.
const KEY_WINDOW: u64 = 7 * 24 * 3600;

/// A Full pool whose key was asked for and drawn.
async fn drawn(network: &Network, anyone: &EthereumWallet) -> Result<(u64, Context)> {
    let (pool, _) = network.open_pool(&network.account("10").await?, THRESHOLD.0, THRESHOLD.1).await?;
    network.fill_pool(pool, 1).await?;
    let key = network.request_key(pool, anyone).await?;
    Ok((pool, network.draw(key, THRESHOLD, anyone).await?))
}

/// A pool whose key the test dealt itself: what a committee makes of which every member is hacked.
async fn dealt(network: &Network, anyone: &EthereumWallet, seed: u8) -> Result<(u64, u64, TrustedDealer)> {
    let (pool, ceremony) = drawn(network, anyone).await?;
    let dealt = TrustedDealer::deal(ceremony.threshold(), [seed; 32]);
    let hacked = Finalisation::colluding(&ceremony, points(&dealt.keys), &network.signers_of(&ceremony)?);
    network.finalise(ceremony.key_id(), &hacked, anyone).await?;
    Ok((pool, ceremony.key_id(), dealt))
}

/// Waits until the newest block of now is finalized.
async fn finality(network: &Network) -> Result<()> {
    let provider = network.provider()?;
    let head = provider.get_block_number().await?;
    network
        .until("finality", || async {
            let block = provider.get_block_by_number(BlockNumberOrTag::Finalized).await?;
            Ok(block.is_some_and(|block| block.header.number >= head))
        })
        .await
}

async fn ask(client: &ServerClient, request: DepositRequest) -> Result<SignResponse> {
    let mut answers = client.sign(&SignBatch { requests: vec![request.into()] }).await?;
    answers.pop().ok_or_else(|| eyre!("no answer"))
}

async fn signed(client: &ServerClient, request: &DepositRequest) -> Result<SignedPartial> {
    match ask(client, request.clone()).await? {
        SignResponse::Signed(partial) => Ok(partial),
        SignResponse::Refused(refused) => bail!("refused: {}", refused.refusal),
    }
}

async fn refused(client: &ServerClient, request: &DepositRequest) -> Result<Refusal> {
    match ask(client, request.clone()).await? {
        SignResponse::Signed(_) => bail!("signed: {request:?}"),
        SignResponse::Refused(refused) => {
            assert!(!refused.refusal.what_to_do.is_empty());
            Ok(refused.refusal)
        }
    }
}

#[tokio::test]
async fn a_server_signs_the_one_deposit_the_finalized_chain_orders_and_refuses_everything_else() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // No relayer: the test asks itself. Finality far behind the head, so that an order is seen before it is final.
    let options = Options { servers: 5, relayers: 0, block_ms: 300, finality: 16, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let (stkr, provider) = (network.stkr().await?, network.provider()?);
    let (micropools, registry) = (network.deployment.micropools, network.deployment.key_registry);
    let fork = network.deployment.genesis_fork_version.0;
    let anyone = EthereumWallet::from(network.account("10").await?);

    let (pool, ceremony) = drawn(&network, &anyone).await?;
    let key = ceremony.key_id();
    let finalisation = network.carry(&ceremony).await?;
    network.finalise(key, &finalisation, &anyone).await?;
    let (burned_pool, burned_key, thief) = dealt(&network, &anyone, 1).await?;
    let (retired_pool, retired_key, _) = dealt(&network, &anyone, 2).await?;

    let member = network.position_of(ceremony.committee()[1])?;
    let outsider = (0..5).find(|position| !ceremony.committee().contains(&network.servers[*position].id));
    let outsider = outsider.ok_or_else(|| eyre!("five servers, four seats"))?;
    let identity = Identity::generate("somebody")?;
    let mut client = network.client(member, &identity)?;
    let message = DepositMessage {
        pubkey: stkr_core::PublicKey::from_eip2537(&finalisation.points[4 * 128..])?.to_compressed(),
        withdrawal_credentials: eth1_withdrawal_credentials(stkr.pools().get(pool).await?.vault),
        amount_gwei: 1_000_000_000,
    };
    let ours = DepositRequest::new(key, &message, fork);
    finality(&network).await?;

    // Not ordered, and then ordered but not final: nothing is signed on what a reorg could take back.
    let not_ordered =
        format!("has not ordered signing root {} for key {key} at its finalized block", ours.signing_root());
    let refusal = refused(&client, &ours).await?;
    assert!(refusal.kind == RefusalKind::Unavailable && refusal.reason.contains(&not_ordered), "{refusal}");
    stkr.pools().order_deposit(pool).await?.send_with(&anyone).await?;
    let refusal = refused(&client, &ours).await?;
    assert!(refusal.kind == RefusalKind::Unavailable && refusal.reason.contains(&not_ordered), "{refusal}");
    let keys = KeyRegistry::new(registry, &provider);
    let ordered = keys.isOrdered(U256::from(key), ours.signing_root());
    assert!(ordered.call().await?, "it was refused because it was not ordered at all");
    assert!(!ordered.block(BlockNumberOrTag::Finalized.into()).call().await?, "the order was final already");
    finality(&network).await?;

    // Final now. Everything that is not exactly this deposit of this network is denied for good.
    let with = |field: &dyn Fn(&mut DepositMessage)| {
        let mut message = message;
        field(&mut message);
        DepositRequest::new(key, &message, fork)
    };
    let mut other_claim = ours.clone();
    other_claim.signing_root = B256::repeat_byte(9);
    let thiefs = eth1_withdrawal_credentials(Address::repeat_byte(0x7e));
    for (request, reason) in [
        (with(&|message| message.withdrawal_credentials = thiefs), format!("withdrawal_credentials is {thiefs}")),
        (with(&|message| message.amount_gwei = 31_000_000_000), "amount is 31000000000".to_owned()),
        (with(&|message| message.pubkey = thief.keys.group_key().to_compressed()), "pubkey is 0x".to_owned()),
        (DepositRequest::new(key, &message, [0; 4]), "genesis_fork_version is 0x00000000".to_owned()),
        (other_claim, format!("claims signing root {}", B256::repeat_byte(9))),
    ] {
        let refusal = refused(&client, &request).await?;
        assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(&reason), "{reason}: {refusal}");
    }
    let refusal = refused(&client, &DepositRequest::new(99, &message, fork)).await?;
    assert!(refusal.kind == RefusalKind::UnknownKey && refusal.reason.contains("no key 99"), "{refusal}");
    let refusal = refused(&network.client(outsider, &identity)?, &ours).await?;
    let reason = format!("not in the committee of key {key}");
    assert!(refusal.kind == RefusalKind::UnknownKey && refusal.reason.contains(&reason), "{refusal}");

    // Signed once, answered again, also across a SIGKILL; another deposit of the key never.
    let partial = signed(&client, &ours).await?;
    let live = stkr_core::PublicKey::from_eip2537(&finalisation.points[128..256])?;
    let signature = stkr_core::Signature::from_eip2537(&partial.partial)?;
    assert!(stkr_core::verify(&live, &ours.signing_root().0, &signature), "not of its share");
    assert_eq!(signed(&client, &ours).await?, partial);
    let foreign = with(&|message| message.withdrawal_credentials = thiefs);
    for _ in 0..2 {
        let refusal = refused(&client, &foreign).await?;
        let reason =
            format!("signed the deposit with root {} for key {key}; it never signs a second one", ours.signing_root());
        assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(&reason), "{refusal}");
        network.kill_server(member);
        network.start_server(member)?;
        // Another connection: the old one died with the process.
        client = network.client(member, &identity)?;
        assert_eq!(signed(&client, &ours).await?, partial, "another answer after SIGKILL");
    }

    // A key that was burned, and one that its pool gave up: denied, whatever was ordered before.
    stkr.pools().order_deposit(burned_pool).await?.send_with(&anyone).await?;
    let stolen = DepositMessage {
        pubkey: thief.keys.group_key().to_compressed(),
        withdrawal_credentials: thiefs,
        amount_gwei: 1_000_000_000,
    };
    let signature = thief.group_signature(&stolen.signing_root(fork).0);
    let proof = stkr.pools().prove_foreign_deposit(burned_pool, thiefs, stolen.amount_gwei, &signature).await?;
    proof.send_with(&anyone).await?;
    advance_time(&provider, KEY_WINDOW + 1).await?;
    stkr.pools().cancel(retired_pool).send_with(&anyone).await?;
    let burned = network.event::<Micropools::DepositOrdered>(micropools, burned_pool).await?.inner;
    let ordered_once = DepositMessage {
        pubkey: stolen.pubkey,
        withdrawal_credentials: burned.withdrawalCredentials,
        amount_gwei: burned.amountGwei,
    };
    for (request, state) in [
        (DepositRequest::new(burned_key, &ordered_once, fork), "Burned"),
        (DepositRequest::new(retired_key, &message, fork), "Retired"),
    ] {
        let refusal = refused(&client, &request).await?;
        let reason = format!("key {} is {state} on the chain, not Live", request.key_id);
        assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(&reason), "{refusal}");
    }
    Ok(())
}
