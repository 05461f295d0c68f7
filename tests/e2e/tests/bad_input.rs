//! What attackers and careless people send to a running network, one after the other: each gets its own clear refusal, in a
//! call and in a transaction that is really mined, and the honest work next to it goes on.

use alloy::network::EthereumWallet;
use alloy::primitives::utils::parse_ether;
use alloy::primitives::{Address, B256, TxHash, U256, keccak256};
use alloy::providers::{DynProvider, Provider};
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::{SolCall, SolError, SolValue};
use eyre::{Result, bail, ensure, eyre};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;
use stkr_chain::bindings::{KeyRegistry, Micropools};
use stkr_chain::errors::ContractError as RawError;
use stkr_core::Threshold;
use stkr_core::testing::TrustedDealer;
use stkr_duties::{DepositMessage, eth1_withdrawal_credentials};
use stkr_e2e::by_hand::{Finalisation, GAS_LIMIT, acknowledge};
use stkr_e2e::process::binary;
use stkr_e2e::{Network, Options, solidity};
use stkr_node::tls::{self, Identity};
use stkr_protocol::SignerKey;
use stkr_protocol::ceremony::{Context, points};
use stkr_sdk::{ContractError, StkrError, Write};

/// Length of a G1 point in EIP-2537 encoding.
const POINT: usize = 128;
/// y of the point with x = 4: on the curve of G1, outside the subgroup.
const Y_OUTSIDE_THE_SUBGROUP: &str =
    "0a989badd40d6212b33cffc3f3763e9bc760f988c9926b26da9dd85e928483446346b8ed00e1de5d5ea93e354abe706c";
const HUNDRED_MB: usize = 100 * 1024 * 1024;

alloy::sol! {
    error NotTheCommitteeIWant(uint32 mine);
    interface PickyDrawer {
        function draw(
            address keys, address servers, uint32 mine, uint256 keyId, bytes header, bytes activeSet, uint32[] kept
        ) external;
    }
}

/// Somebody who sends what is refused all the same.
struct Attacker {
    wallet: EthereumWallet,
    address: Address,
    provider: DynProvider,
    sent: Vec<(String, TxHash)>,
}

impl Attacker {
    async fn new(network: &Network) -> Result<Self> {
        let account = network.account("1000").await?;
        let wallet = EthereumWallet::from(account.clone());
        let provider = network.wallet_provider(&wallet)?.erased();
        Ok(Self { wallet, address: account.address(), provider, sent: Vec::new() })
    }

    /// The SDK's answer to a write that is refused; the same transaction is sent past the SDK as well.
    async fn write<T>(&mut self, name: &str, write: Write<'_, DynProvider, T>) -> Result<ContractError> {
        let request = write.unsigned();
        let refusal = match write.send_with(&self.wallet).await {
            Err(StkrError::Contract(refusal)) => refusal,
            Err(other) => bail!("{name}: {other}"),
            Ok(sent) => bail!("{name} passed in {}", sent.receipt.transaction_hash),
        };
        self.send(name, request).await?;
        Ok(refusal)
    }

    /// The contract's answer to a call; the same transaction is sent as well.
    async fn call(&mut self, name: &str, request: TransactionRequest) -> Result<ContractError> {
        let refusal = match self.provider.call(request.clone().from(self.address)).await {
            Err(error) => RawError::in_rpc_error(&error).ok_or_else(|| eyre!("{name}: {error}"))?,
            Ok(output) => bail!("{name} passed: {output}"),
        };
        self.send(name, request).await?;
        Ok(refusal.into())
    }

    async fn send(&mut self, name: &str, request: TransactionRequest) -> Result<()> {
        let pending = self.provider.send_transaction(request.gas_limit(GAS_LIMIT)).await?;
        self.sent.push((name.to_owned(), *pending.tx_hash()));
        Ok(())
    }

    /// Every transaction is in a block and failed there.
    async fn nothing_passed(&mut self, network: &Network) -> Result<()> {
        for (name, hash) in std::mem::take(&mut self.sent) {
            network.until(&name, || async { Ok(self.provider.get_transaction_receipt(hash).await?.is_some()) }).await?;
            let receipt = self.provider.get_transaction_receipt(hash).await?;
            let receipt = receipt.ok_or_else(|| eyre!("{name}: its receipt went away"))?;
            assert!(!receipt.status(), "{name} passed on the chain in {hash}");
            assert!(receipt.gas_used < GAS_LIMIT * 9 / 10, "{name} ran out of gas instead of being refused");
        }
        Ok(())
    }
}

fn ether(text: &str) -> Result<U256> {
    Ok(parse_ether(text)?)
}

#[tokio::test]
async fn every_bad_input_gets_its_own_refusal_and_the_honest_work_beside_it_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Finality far behind the head leaves time between an order and its signature.
    let options = Options { servers: 5, relayers: 0, block_ms: 300, finality: 16, ..Options::new(dir.path()) };
    let mut network = Network::start(options).await?;
    let anyone = EthereumWallet::from(network.account("10").await?);

    let first = stakes(&network).await?;
    let key = network.request_key(first, &anyone).await?;
    let ceremony = picky_drawer(&network, key, &anyone).await?;
    // A committee of which every member is hacked may make any key: here one whose secret the test knows.
    let dealt = TrustedDealer::deal(Threshold::new(3, 4)?, [1; 32]);
    let hacked = Finalisation::colluding(&ceremony, points(&dealt.keys), &network.signers_of(&ceremony)?);
    network.finalise(key, &hacked, &anyone).await?;
    predeposits(&network, first, &dealt, &anyone).await?;

    let (second, _) = network.open_pool(&network.account("10").await?, 3, 4).await?;
    network.fill_pool(second, 2).await?;
    let key = network.request_key(second, &anyone).await?;
    let ceremony = network.draw(key, (3, 4), &anyone).await?;
    finalisations(&network, &ceremony, &dealt).await?;

    network.add_relayer(0).await?;
    ports(&network).await?;
    network.event::<KeyRegistry::KeyFinalised>(network.deployment.key_registry, key).await?;
    wrong_fingerprint(&network, second, &ceremony).await?;
    newer_databases(&mut network)
}

/// Stakes and transfers of sizes that no position can have. Returns a Full pool.
async fn stakes(network: &Network) -> Result<u64> {
    let stkr = network.stkr().await?;
    let (pool, _) = network.open_pool(&network.account("10").await?, 3, 4).await?;
    let mut staker = Attacker::new(network).await?;
    let minimum = ether("0.5")?;
    let position =
        |account, amount| ContractError::PositionTooSmall(Micropools::PositionTooSmall { account, amount, minimum });

    let early = stkr.pools().stake(pool, ether("0.49")?).map(|_| ());
    assert!(matches!(early, Err(StkrError::Invalid { .. })), "the SDK asks the chain before it refuses: {early:?}");
    let refusal = staker.write("a stake of 0.49", stkr.pools().increase(pool, ether("0.49")?)?).await?;
    assert_eq!(refusal, position(staker.address, ether("0.49")?));

    let refusal = staker.write("a gap of 0.3", stkr.pools().stake(pool, ether("31.7")?)?).await?;
    assert_eq!(refusal, ContractError::GapTooSmall(Micropools::GapTooSmall { gap: ether("0.3")?, minimum }));
    assert!(refusal.to_string().contains("would leave a gap of 0.3 ETH"), "{refusal}");
    staker.nothing_passed(network).await?;

    let mut owner = Attacker::new(network).await?;
    let receiver = Address::repeat_byte(0x5e);
    stkr.pools().stake(pool, ether("1")?)?.send_with(&owner.wallet).await?;
    let transfer = stkr.pools().transfer(pool, receiver, ether("0.8")?)?;
    let refusal = owner.write("a transfer that leaves 0.2", transfer).await?;
    assert_eq!(refusal, position(owner.address, ether("0.2")?));
    let transfer = stkr.pools().transfer(pool, receiver, ether("0.2")?)?;
    let refusal = owner.write("a transfer of 0.2", transfer).await?;
    assert_eq!(refusal, position(receiver, ether("0.2")?));
    owner.nothing_passed(network).await?;
    assert_eq!(stkr.positions().balance(owner.address, pool).await?, ether("1")?);
    assert_eq!(stkr.pools().get(pool).await?.staked, ether("1")?);

    stkr.pools().stake(pool, ether("31")?)?.send_with(&staker.wallet).await?;
    Ok(pool)
}

/// A contract draws and undoes the draw unless its owner's server is in: trying again and again changes nothing.
async fn picky_drawer(network: &Network, key: u64, anyone: &EthereumWallet) -> Result<Context> {
    let mut attacker = Attacker::new(network).await?;
    let contract = solidity::create(&attacker.provider, solidity::compile("PickyDrawer")?).await?;
    let honest = network.stkr().await?.keys().draw(key).await?.unsigned();
    let honest = KeyRegistry::drawCall::abi_decode(honest.input.input().ok_or_else(|| eyre!("no calldata"))?)?;
    let draw = |mine: u32| {
        let call = PickyDrawer::drawCall {
            keys: network.deployment.key_registry,
            servers: network.deployment.server_registry,
            mine,
            keyId: honest.keyId,
            header: honest.header.clone(),
            activeSet: honest.activeSet.clone(),
            kept: honest.kept.clone(),
        };
        TransactionRequest::default().to(contract).input(call.abi_encode().into()).from(attacker.address)
    };

    // Four of five servers get a seat: one owner is disappointed, in every block the same.
    let mut disappointed = Vec::new();
    for server in &network.servers {
        match attacker.provider.call(draw(server.id)).await {
            Ok(_) => {}
            Err(error) => {
                let error = RawError::in_rpc_error(&error).ok_or(error)?;
                let expected = RawError::decode(&NotTheCommitteeIWant { mine: server.id }.abi_encode());
                assert_eq!(error, expected);
                disappointed.push(server.id);
            }
        }
    }
    assert_eq!(disappointed.len(), 1, "{disappointed:?}");
    let (mine, request) = (disappointed[0], draw(disappointed[0]));
    for attempt in 0..4 {
        let before = attacker.provider.get_block_number().await?;
        attacker.send(&format!("attempt {attempt} at another committee"), request.clone()).await?;
        network.until("the next block", || async { Ok(attacker.provider.get_block_number().await? > before) }).await?;
    }
    attacker.nothing_passed(network).await?;

    let ceremony = network.draw(key, (3, 4), anyone).await?;
    assert!(!ceremony.committee().contains(&mine), "the committee was another one all the time");
    Ok(ceremony)
}

/// Signatures that are none, of something else, or of a deposit to somebody else.
async fn predeposits(network: &Network, pool: u64, dealt: &TrustedDealer, anyone: &EthereumWallet) -> Result<()> {
    let stkr = network.stkr().await?;
    stkr.pools().order_deposit(pool).await?.send_with(anyone).await?;
    let ordered = network.event::<Micropools::DepositOrdered>(network.deployment.micropools, pool).await?.inner;
    let refusal = ContractError::InvalidSignature(Micropools::InvalidSignature {
        poolId: U256::from(pool),
        signingRoot: ordered.signingRoot,
    });

    let mut attacker = Attacker::new(network).await?;
    let other = TrustedDealer::deal(Threshold::new(3, 4)?, [2; 32]);
    let thief = DepositMessage {
        pubkey: dealt.keys.group_key().to_compressed(),
        withdrawal_credentials: eth1_withdrawal_credentials(attacker.address),
        amount_gwei: ordered.amountGwei,
    };
    let thief = thief.signing_root(network.deployment.genesis_fork_version.0);
    for (name, signature) in [
        ("a signature over nothing", dealt.group_signature(&[0; 32])),
        ("a signature by another key", other.group_signature(&ordered.signingRoot.0)),
        ("a signature over other credentials", dealt.group_signature(&thief.0)),
    ] {
        assert_eq!(attacker.write(name, stkr.pools().predeposit(pool, &signature).await?).await?, refusal, "{name}");
    }
    attacker.nothing_passed(network).await?;
    let sent = network.events_now::<Micropools::DepositSent>(network.deployment.micropools, pool).await?;
    assert!(sent.is_empty(), "ether left for a deposit that nobody signed");

    // So that the three were not refused for a reason that has nothing to do with them.
    let good = dealt.group_signature(&ordered.signingRoot.0);
    stkr.pools().predeposit(pool, &good).await?.send_with(anyone).await?;
    Ok(())
}

/// Points and acknowledgements that are no key, for a key that is really drawn. All signer keys are the attacker's but
/// where the acknowledgements themselves are what is wrong, so that only the checks of the points stand in its way.
async fn finalisations(network: &Network, ceremony: &Context, taken: &TrustedDealer) -> Result<()> {
    let key = ceremony.key_id();
    let signers = network.signers_of(ceremony)?;
    let mut attacker = Attacker::new(network).await?;
    let threshold = ceremony.threshold();
    let (dealt, other) = (TrustedDealer::deal(threshold, [3; 32]), TrustedDealer::deal(threshold, [4; 32]));
    let (good, other) = (points(&dealt.keys), points(&other.keys));
    let group_key = usize::from(threshold.n());
    let replace = |position: usize, by: &[u8]| {
        let mut points = good.clone();
        points[position * POINT..(position + 1) * POINT].copy_from_slice(by);
        points
    };
    let point_of = |points: &[u8], position: usize| points[position * POINT..(position + 1) * POINT].to_vec();
    let mut off_curve = point_of(&good, 1);
    off_curve[POINT - 1] ^= 1;
    let mut outside = vec![0; POINT];
    outside[POINT / 2 - 1] = 4;
    outside[POINT / 2 + 16..].copy_from_slice(&hex::decode(Y_OUTSIDE_THE_SUBGROUP)?);
    let bad_point = |position: usize| ContractError::BadPoint(KeyRegistry::BadPoint { position: U256::from(position) });
    let invalid_point = || ContractError::InvalidPoint(KeyRegistry::InvalidPoint { keyId: U256::from(key) });
    let not_one_polynomial = || {
        let (key_id, t) = (U256::from(key), threshold.t());
        ContractError::NotOnePolynomial(KeyRegistry::NotOnePolynomial { keyId: key_id, threshold: t })
    };
    let first_key = ContractError::GroupKeyTaken(KeyRegistry::GroupKeyTaken { keyId: U256::from(key - 1) });

    for (name, points, refusal) in [
        ("a share key beside the polynomial", replace(0, &point_of(&other, 0)), not_one_polynomial()),
        ("a group key that does not belong", replace(group_key, &point_of(&other, group_key)), not_one_polynomial()),
        ("a group key that is used already", points(&taken.keys), first_key),
        ("infinity as a share key", replace(2, &[0; POINT]), bad_point(2)),
        ("infinity as the group key", replace(group_key, &[0; POINT]), bad_point(group_key)),
        ("a share key off the curve", replace(1, &off_curve), invalid_point()),
        ("a share key outside the subgroup", replace(1, &outside), invalid_point()),
        ("a group key outside the subgroup", replace(group_key, &outside), invalid_point()),
        ("a share key twice", replace(3, &point_of(&good, 1)), bad_point(3)),
        ("a share key that is the group key", replace(3, &point_of(&good, group_key)), bad_point(group_key)),
    ] {
        let finalisation = Finalisation::colluding(ceremony, points, &signers);
        let request = finalisation.transaction(network, key);
        assert_eq!(attacker.call(name, request).await?, refusal, "{name}");
    }

    let colluding = Finalisation::colluding(ceremony, good.clone(), &signers);
    let short = Finalisation { points: good[POINT..].to_vec(), ..colluding.clone() };
    let (length, expected) = (U256::from(4 * POINT), U256::from(5 * POINT));
    let refusal = attacker.call("a share key too few", short.transaction(network, key)).await?;
    assert_eq!(refusal, ContractError::BadLength(KeyRegistry::BadLength { length, expected }));

    // One server in two seats: index 2 would be index 1 again.
    let mut twice = ceremony.committee();
    twice[1] = twice[0];
    let given = keccak256(twice.abi_encode());
    let committed = keccak256(ceremony.committee().abi_encode());
    let duplicate = Finalisation { committee: twice, ..colluding.clone() };
    let refusal = attacker.call("a server in two seats", duplicate.transaction(network, key)).await?;
    assert_eq!(refusal, ContractError::WrongCommitment(KeyRegistry::WrongCommitment { given, committed }));

    // Three members say one transcript, one says another: the digest of the first recovers to somebody else.
    let mut split = colluding.clone();
    let index = threshold.indices().nth(2).ok_or_else(|| eyre!("no index 3"))?;
    let another = acknowledge(ceremony, index, &good, B256::repeat_byte(0xd2), &signers[2]);
    split.acknowledgements[2 * 65..3 * 65].copy_from_slice(&another);
    let refusal = attacker.call("acknowledgements of two transcripts", split.transaction(network, key)).await?;
    let ContractError::BadAcknowledgement(bad) = refusal else { bail!("{refusal}") };
    assert_eq!((bad.index, bad.signer), (3, signers[2].address()));
    assert_ne!(bad.recovered, bad.signer);

    // Without the signer keys of the members.
    let strangers = (0..signers.len()).map(|_| SignerKey::random()).collect::<Result<Vec<_>, _>>()?;
    let foreign = Finalisation::colluding(ceremony, good, &strangers);
    let refusal = attacker.call("acknowledgements of strangers", foreign.transaction(network, key)).await?;
    let (recovered, signer) = (strangers[0].address(), signers[0].address());
    let expected = KeyRegistry::BadAcknowledgement { index: 1, recovered, signer };
    assert_eq!(refusal, ContractError::BadAcknowledgement(expected));

    attacker.nothing_passed(network).await?;
    let state = network.stkr().await?.keys().get(key).await?.state;
    assert_eq!(state, stkr_sdk::KeyState::Drawn);
    // The last word on whether they failed for their own reasons: what they were made of would have passed.
    let call = colluding.transaction(network, key).from(attacker.address);
    network.provider()?.call(call).await?;
    Ok(())
}

/// An operator's certificate is not the one that it registered: the others go on without it, and everybody reads why.
async fn wrong_fingerprint(network: &Network, pool: u64, ceremony: &Context) -> Result<()> {
    let (stkr, micropools) = (network.stkr().await?, network.deployment.micropools);
    let id = ceremony.committee()[0];
    let position = network.position_of(id)?;
    let server = &network.servers[position];
    let wrong = B256::repeat_byte(0xf1);
    let operator = EthereumWallet::from(server.operator.clone());
    stkr.servers().set_endpoint(id, wrong, &server.endpoint)?.send_with(&operator).await?;
    let sent = network.events_now::<Micropools::DepositSent>(micropools, pool).await?;
    ensure!(sent.is_empty(), "the deposit went out before the fingerprint was wrong; this run proves nothing");

    let sentence = format!("shows certificate {}, the registry says {wrong}", network.fingerprint(position)?);
    network.event::<Micropools::DepositSent>(micropools, pool).await?;
    network
        .until(
            "the status shows both fingerprints as the problem of this server, and no problem of another",
            || async {
                let status = network.relayer_json(0, "/status").await?;
                let servers = status["servers"].as_array().cloned().unwrap_or_default();
                let problems: Vec<_> = servers.iter().filter(|server| !server["problem"].is_null()).collect();
                Ok(problems.len() == 1
                    && problems[0]["serverId"].as_str() == Some(&id.to_string())
                    && problems[0]["problem"].as_str().is_some_and(|problem| problem.contains(&sentence)))
            },
        )
        .await
}

/// Databases that a later version of the program wrote: neither program touches them.
fn newer_databases(network: &mut Network) -> Result<()> {
    network.kill_server(0);
    network.kill_relayer(0);
    let server = (network.server_config(0)?.files.database, network.servers[0].config.clone());
    let relayer = (network.relayers[0].dir.join("relayer.sqlite"), network.relayers[0].config.clone());
    for (program, (database, config)) in [("stkr-server", server), ("stkr-relayer", relayer)] {
        let connection = rusqlite::Connection::open(&database)?;
        connection.pragma_update(None, "user_version", 99)?;
        connection.close().map_err(|(_, error)| error)?;
        let before = std::fs::read(&database)?;
        let output = Command::new(binary(program)?).args(["run", "--config"]).arg(&config).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{program}: {said}");
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        assert!(
            last.contains("schema version 99") && last.contains("run the newer program"),
            "{program} does not say what to do: {said}"
        );
        assert_eq!(std::fs::read(&database)?, before, "{program} changed a database that it cannot read");
    }
    Ok(())
}

// ---- sockets

/// Bytes that are no request, too few or far too many, at the port of a server and of a relayer.
async fn ports(network: &Network) -> Result<()> {
    let server = network.servers[0].endpoint.trim_start_matches("https://").to_owned();
    let relayer = network.relayers[0].url.trim_start_matches("http://").to_owned();
    let identity = Identity::generate("attacker")?;
    let mut config = tls::client_config(&identity, network.fingerprint(0)?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let config = std::sync::Arc::new(config);
    let mtls = || -> Result<Box<dyn Socket>> {
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1")?;
        let connection = rustls::ClientConnection::new(config.clone(), name)?;
        Ok(Box::new(Tls::new(connection, tcp(&server)?)))
    };
    let plain = || -> Result<Box<dyn Socket>> { Ok(Box::new(tcp(&relayer)?)) };

    let mut http = tcp(&server)?;
    http.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")?;
    let answer = read(&mut http);
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("this port speaks TLS 1.3 only"), "{answer}");

    for (what, open, path, chunked_status) in [
        ("server", &mtls as &dyn Fn() -> Result<Box<dyn Socket>>, "/v1/sign", "413"),
        ("relayer", &plain, "/status", "405"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n");
        // Declared: refused before a byte of it was sent.
        let mut socket = open()?;
        socket.write_all(format!("{head}content-length: {HUNDRED_MB}\r\n\r\n").as_bytes())?;
        socket.flush()?;
        let answer = read(&mut *socket);
        assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("whatToDo"), "{what}: {answer}");

        // Not declared: cut off far before its end.
        let mut socket = open()?;
        socket.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())?;
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        let mut written = 0;
        while written < HUNDRED_MB && socket.write_all(&chunk).is_ok() && socket.flush().is_ok() {
            written += chunk.len();
        }
        assert!(written < HUNDRED_MB / 2, "{what} took {written} bytes");
        let answer = read(&mut *socket);
        assert!(answer.starts_with(&format!("HTTP/1.1 {chunked_status}")), "{what}: {answer}");

        // Truncated in the body, and in the middle of a header.
        for truncated in [format!("{head}content-length: 1000\r\n\r\n{{\"requests\":["), head] {
            let mut socket = open()?;
            socket.write_all(truncated.as_bytes())?;
            socket.flush()?;
            drop(socket);
        }
        let mut socket = open()?;
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        socket.flush()?;
        let answer = read(&mut *socket);
        assert!(answer.starts_with("HTTP/1.1 200"), "{what} does not go on: {answer}");
    }
    Ok(())
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

trait Socket: std::io::Write {
    /// Some more of the answer; nothing at its end. Never writes: what could not be sent must not hide what was answered.
    fn more(&mut self, buffer: &mut [u8]) -> std::io::Result<usize>;
}

impl Socket for TcpStream {
    fn more(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.read(buffer)
    }
}

impl Socket for Tls {
    fn more(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.conn.reader().read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.conn.read_tls(&mut self.sock)? == 0 {
                return Ok(0);
            }
            self.conn.process_new_packets().map_err(std::io::Error::other)?;
        }
    }
}

fn tcp(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// What comes until the other side closes, or until the end of a JSON object.
fn read(socket: &mut dyn Socket) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"}") {
        match socket.more(&mut buffer) {
            Ok(count @ 1..) => answer.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}
